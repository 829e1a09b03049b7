//! The templates that are part of the program.

macro_rules! mail {
    ($file:expr) => {
        (concat!("mail/", $file), include_str!(concat!("../mail/templates/", $file)))
    };
}

macro_rules! page {
    ($file:expr) => {
        (concat!("pages/", $file), include_str!(concat!("../http/pages/", $file)))
    };
}

/// The layouts, and the words of each language.
macro_rules! templates {
    ($($locale:literal)+) => {
        &[
            mail!("base.html"),
            mail!("base.subject"),
            mail!("base.txt"),
            mail!("en/operator_alarm.subject"),
            mail!("en/operator_alarm.txt"),
            page!("base.html"),
            page!("card_saved.html"),
            page!("error.html"),
            page!("not_found.html"),
            page!("parts.html"),
            page!("pay.html"),
            page!("save_card.html"),
            page!("thanks.html"),
            page!("too_many.html"),
            page!("turned_back.html"),
            $(
                mail!(concat!($locale, "/authentication_required.mail")),
                mail!(concat!($locale, "/card_expiring.mail")),
                mail!(concat!($locale, "/last_notice.mail")),
                mail!(concat!($locale, "/payment_failed.mail")),
                mail!(concat!($locale, "/receipt.mail")),
                mail!(concat!($locale, "/recovered.mail")),
                mail!(concat!($locale, "/save_card.mail")),
                mail!(concat!($locale, "/subscription_ended.mail")),
                mail!(concat!($locale, "/upcoming_charge.mail")),
                mail!(concat!($locale, "/words.txt")),
                page!(concat!($locale, "/words.html")),
            )+
        ]
    };
}

/// Name and text of each.
pub(super) const TEMPLATES: &[(&str, &str)] = templates!["en" "de" "fr" "es" "zh"];
