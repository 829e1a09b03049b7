//! The bytes of every request, exactly: an idempotency key is good for one body only.

use jiff::Timestamp;

use super::script::{Script, answer, intent};
use crate::billing::money::Money;
use crate::stripe::checkout::{CreatePaymentSession, CreateSetupSession, SessionPage, page_locale};
use crate::stripe::customers::CustomerFields;
use crate::stripe::payment_intents::{CancelReason, ConfirmOffSession, CreateOffSession};
use crate::stripe::payment_methods::AttachPaymentMethod;
use crate::stripe::refunds::{CreateRefund, RefundReason};

fn money(minor: i64, code: &str) -> Money {
    Money::from_minor(minor, code.parse().unwrap()).unwrap()
}

const METADATA: &[(&str, &str)] = &[("recurd_instance", "i-1"), ("recurd_charge", "c-1")];

#[test]
fn a_charge_without_the_customer() {
    let create = CreateOffSession {
        amount: money(1099, "USD"),
        customer: "cus_1",
        payment_method: "pm_1",
        description: Some("Pro, January & more"),
        statement_descriptor_suffix: Some("PRO"),
        metadata: METADATA,
    };
    assert_eq!(
        create.encode(),
        "amount=1099&currency=usd&customer=cus_1&payment_method=pm_1&payment_method_types[]=card\
         &confirm=true&off_session=true&description=Pro%2C+January+%26+more&statement_descriptor_suffix=PRO\
         &metadata[recurd_instance]=i-1&metadata[recurd_charge]=c-1&expand[]=latest_charge"
    );
    let bare =
        CreateOffSession { description: None, statement_descriptor_suffix: None, metadata: &[], ..create };
    assert_eq!(
        bare.encode(),
        "amount=1099&currency=usd&customer=cus_1&payment_method=pm_1&payment_method_types[]=card\
         &confirm=true&off_session=true&expand[]=latest_charge"
    );
}

#[test]
fn confirming_again_sends_the_card_again() {
    assert_eq!(
        ConfirmOffSession { payment_method: "pm_2" }.encode(),
        "payment_method=pm_2&off_session=true&expand[]=latest_charge"
    );
    assert_eq!(CancelReason::Abandoned.encode(), "cancellation_reason=abandoned&expand[]=latest_charge");
    assert_eq!(CancelReason::Duplicate.encode(), "cancellation_reason=duplicate&expand[]=latest_charge");
    assert_eq!(
        CancelReason::RequestedByCustomer.encode(),
        "cancellation_reason=requested_by_customer&expand[]=latest_charge"
    );
}

fn page() -> SessionPage<'static> {
    SessionPage {
        customer: "cus_1",
        success_url: "https://m.example/done?s={CHECKOUT_SESSION_ID}",
        cancel_url: Some("https://m.example/back"),
        locale: Some("de"),
        expires_at: Some(Timestamp::from_second(1_767_229_200).unwrap()),
        submit_message: Some("We charge 29 € a month."),
        metadata: METADATA,
    }
}

#[test]
fn a_page_that_saves_a_card() {
    let session = CreateSetupSession { page: page(), terms_required: true };
    assert_eq!(
        session.encode(),
        "mode=setup&customer=cus_1&payment_method_types[]=card&wallet_options[link][display]=never\
         &success_url=https%3A%2F%2Fm.example%2Fdone%3Fs%3D%7BCHECKOUT_SESSION_ID%7D\
         &cancel_url=https%3A%2F%2Fm.example%2Fback&locale=de&payment_method_data[allow_redisplay]=limited&expires_at=1767229200\
         &custom_text[submit][message]=We+charge+29+%E2%82%AC+a+month.\
         &metadata[recurd_instance]=i-1&metadata[recurd_charge]=c-1&consent_collection[terms_of_service]=required\
         &setup_intent_data[metadata][recurd_instance]=i-1&setup_intent_data[metadata][recurd_charge]=c-1"
    );
}

#[test]
fn a_page_speaks_the_nearest_language_it_has() {
    for (tag, locale) in [
        ("de", Some("de")),
        ("de-AT", Some("de")),
        ("en_gb", Some("en-GB")),
        ("pt-BR", Some("pt-BR")),
        ("zh-Hant-TW", Some("zh")),
        ("eo", None),
        ("", None),
    ] {
        assert_eq!(page_locale(tag), locale, "{tag}");
        let page = SessionPage { locale: Some(tag), ..page() };
        let body = CreateSetupSession { page, terms_required: false }.encode();
        assert_eq!(body.contains("&locale="), locale.is_some(), "{tag}");
    }
}

#[test]
fn a_page_that_collects_one_exact_amount() {
    let session = CreatePaymentSession {
        page: SessionPage { cancel_url: None, locale: None, submit_message: None, ..page() },
        other_methods: &[],
        amount: money(500, "ISK"),
        product_name: "Pro, January",
        description: None,
        statement_descriptor_suffix: None,
    };
    let body = session.encode();
    assert_eq!(
        body,
        "mode=payment&customer=cus_1&payment_method_types[]=card&wallet_options[link][display]=never\
         &success_url=https%3A%2F%2Fm.example%2Fdone%3Fs%3D%7BCHECKOUT_SESSION_ID%7D&payment_method_data[allow_redisplay]=limited\
         &expires_at=1767229200\
         &metadata[recurd_instance]=i-1&metadata[recurd_charge]=c-1&line_items[0][quantity]=1\
         &line_items[0][price_data][currency]=isk&line_items[0][price_data][unit_amount]=500\
         &line_items[0][price_data][product_data][name]=Pro%2C+January\
         &payment_method_options[card][setup_future_usage]=off_session\
         &payment_intent_data[metadata][recurd_instance]=i-1&payment_intent_data[metadata][recurd_charge]=c-1\
         &saved_payment_method_options[allow_redisplay_filters][]=always\
         &saved_payment_method_options[allow_redisplay_filters][]=limited\
         &saved_payment_method_options[allow_redisplay_filters][]=unspecified"
    );
    assert!(!body.contains("after_expiration"), "a link must not come back to life");
    let body = CreatePaymentSession { other_methods: &["sepa_debit", "ideal"], ..session }.encode();
    let methods =
        "payment_method_types[]=card&payment_method_types[]=sepa_debit&payment_method_types[]=ideal&wallet";
    assert!(body.contains(methods), "{body}");
}

#[test]
fn customers_cards_and_refunds() {
    let customer =
        CustomerFields { email: Some("a+b@example.com"), name: Some("Pat Ü"), ..Default::default() };
    assert_eq!(customer.encode(), "email=a%2Bb%40example.com&name=Pat+%C3%9C");
    let default = CustomerFields { default_payment_method: Some("pm_1"), ..Default::default() };
    assert_eq!(default.encode(), "invoice_settings[default_payment_method]=pm_1");
    assert_eq!(AttachPaymentMethod { customer: "cus_1" }.encode(), "customer=cus_1");
    let refund = CreateRefund {
        payment_intent: "pi_1",
        amount: Some(money(99, "USD")),
        reason: RefundReason::Duplicate,
        metadata: &[],
    };
    assert_eq!(refund.encode(), "payment_intent=pi_1&amount=99&reason=duplicate");
}

#[tokio::test]
async fn every_request_says_who_asks_in_which_version() {
    let stripe = Script::new([answer(200, intent("succeeded")), answer(200, intent("succeeded"))]);
    let client = stripe.client();
    client
        .confirm_payment_intent("pi_1", ConfirmOffSession { payment_method: "pm_1" }.encode(), "k:1")
        .await
        .unwrap();
    client.retrieve_payment_intent("pi_1").await.unwrap();

    let seen = stripe.seen();
    let header =
        |i: usize, name: &str| seen[i].headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(format!("{:?}", seen[0]), "Request(POST /v1/payment_intents/pi_1/confirm)");
    assert_eq!(
        seen[0].body.as_deref(),
        Some(&b"payment_method=pm_1&off_session=true&expand[]=latest_charge"[..])
    );
    assert_eq!(header(0, "authorization").as_deref(), Some("Bearer sk_test_scripted_secret_key"));
    assert_eq!(header(0, "stripe-version").as_deref(), Some("2026-05-27.dahlia"));
    assert_eq!(header(0, "idempotency-key").as_deref(), Some("k:1"));
    assert_eq!(header(0, "content-type").as_deref(), Some("application/x-www-form-urlencoded"));
    assert_eq!(seen[1].path, "/v1/payment_intents/pi_1?expand[]=latest_charge");
    assert_eq!((header(1, "idempotency-key"), header(1, "content-type")), (None, None));
    assert_eq!(header(1, "stripe-version").as_deref(), Some("2026-05-27.dahlia"));
}

#[tokio::test]
async fn what_cannot_be_a_request_is_not_sent() {
    let stripe = Script::new([]);
    let client = stripe.client();
    let error = client.create_payment_intent("amount=1099", "").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "not sent to Stripe: invalid_idempotency_key: an idempotency key has 1 to 255 visible ASCII characters"
    );
    for key in ["line\nbreak".to_owned(), "ü".to_owned(), "x".repeat(256)] {
        assert!(client.create_payment_intent("amount=1099", &key).await.is_err(), "{key:?}");
    }
    assert!(client.retrieve_checkout_session("../customers").await.is_err());
    assert!(client.retrieve_payment_intent("").await.is_err());
    assert_eq!(stripe.sends(), 0);
}
