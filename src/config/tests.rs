use super::*;
use crate::billing::decline::Class;
use crate::billing::ladder::Finally;

fn load(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let dir = std::env::temp_dir().join(format!("recurd-config-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("schedules.toml");
    std::fs::write(&path, text).unwrap();
    let env = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let loaded = Config::load_with(Some(&path), &env);
    std::fs::remove_dir_all(&dir).unwrap();
    loaded
}

fn refusal(text: &str) -> String {
    let error = load(text, &[]).unwrap_err().to_string();
    error.split_once("schedules.toml").map(|(_, rest)| rest.to_owned()).unwrap_or(error)
}

const PRO: &str = "[plans.pro]\nname = \"Pro\"\nprice = \"29.00 USD\"\nevery = \"1 month\"\n";

#[test]
fn an_empty_file_is_a_valid_one() {
    assert!(load("", &[]).unwrap().plans.is_empty());
    assert_eq!(load(PRO, &[]).unwrap().plans["pro"].price_minor, 2900);
}

#[test]
fn wrong_keys_are_named_with_line_and_suggestion() {
    assert_eq!(
        refusal("[http]\nlissen = \"x\"\n"),
        ":2: http.lissen: `lissen` is not a key here; did you mean `listen`?"
    );
    let float = PRO.replace("\"29.00 USD\"", "29.00");
    assert_eq!(
        refusal(&float),
        ":3: plans.pro.price: numbers with a point are not exact; write the amount as text, such as \"29.00 USD\""
    );
    assert!(refusal(&PRO.replace("29.00", "0.10")).starts_with(":3: plans.pro.price: 0.10 USD is outside"));
    assert!(refusal(&PRO.replace("USD", "XXX")).contains("not a currency"));
    assert!(refusal(&PRO.replace("1 month", "monthly")).starts_with(":4: plans.pro.every:"));
    assert!(refusal("[plans.pro]\nname = \"Pro\"\n").contains("price"));
}

#[test]
fn the_payment_page_offers_only_methods_that_pay_in_the_currency() {
    let offered = load("[stripe.page_methods]\nEUR = [\"sepa_debit\"]\n", &[]).unwrap().stripe.page_methods;
    assert_eq!(offered.of("eur".parse().unwrap()), ["sepa_debit"]);
    assert_eq!(
        refusal("[stripe.page_methods]\neur = [\"sepa_debut\"]\n"),
        ":2: stripe.page_methods.eur: `sepa_debut` is not a method for the payment page; did you mean `sepa_debit`?"
    );
    assert!(refusal("[stripe.page_methods]\nusd = [\"sepa_debit\"]\n").contains("does not pay in USD"));
    assert!(refusal("[stripe.page_methods]\nxxx = [\"sepa_debit\"]\n").contains("not a currency"));
}

#[test]
fn keys_must_fit_the_mode() {
    let live = [("RECURD__STRIPE__SECRET_KEY", "sk_live_123")];
    assert!(load("", &live).unwrap_err().to_string().contains("live key"));
    let test_in_live = [("RECURD__STRIPE__SECRET_KEY", "sk_test_123"), ("RECURD__STRIPE__MODE", "live")];
    assert!(load("", &test_in_live).is_err());
    assert!(load("", &[("RECURD__STRIPE__SECRET_KEY", "pk_test_123")]).is_err());
}

#[test]
fn the_environment_wins_and_secrets_come_from_files() {
    let file = std::env::temp_dir().join(format!("recurd-secret-{}", uuid::Uuid::new_v4()));
    std::fs::write(&file, "sk_test_fromfile\n").unwrap();
    let env = [
        ("RECURD__STRIPE__SECRET_KEY_FILE", file.to_str().unwrap()),
        ("RECURD__STRIPE__TIMEOUT_SECS", "30"),
        ("RECURD__HTTP__LISTEN", "127.0.0.1:9000"),
        ("RECURD__MAIL__RECEIPTS", "true"),
    ];
    let config = load("[http]\nlisten = \"127.0.0.1:1\"\n", &env).unwrap();
    assert!(config.stripe.secret_key.is_some());
    assert_eq!((config.stripe.timeout.as_secs(), config.listen.port()), (30, 9000));
    assert!(config.mail.receipts && !load("", &[]).unwrap().mail.receipts);
    assert!(load("", &[("RECURD__MAIL__RECEIPTS", "yes")]).is_err());
    assert!(!format!("{config:?}").contains("fromfile"));
    assert!(load("", &[("RECURD__STRIPE__TIMEOUT_SECS", "soon")]).is_err());
    std::fs::remove_file(file).unwrap();
}

/// The ladder of one plan and class, as `after` days and the end.
fn ladder_of(text: &str, plan: &str, class: Class) -> (Vec<u64>, Finally) {
    let config = load(&format!("{PRO}{text}"), &[]).unwrap();
    let ladder = config.dunning.of(plan, class);
    (ladder.steps.iter().map(|step| step.after_secs / 86_400).collect(), ladder.finally)
}

#[test]
fn of_each_ladder_key_the_most_particular_place_counts() {
    let text = "
        [dunning]
        steps = [ { after = \"1 day\" } ]
        finally = \"pause\"
        [dunning.classes.funds]
        steps = [ { after = \"2 days\" } ]
        [plans.pro.dunning]
        finally = \"uncollectible\"
        [plans.pro.dunning.classes.generic]
        steps = [ { after = \"3 days\" } ]
        [plans.own]
        name = \"Own\"
        price = \"1.00 EUR\"
        every = \"1 month\"
        [plans.own.dunning]
        steps = [ { after = \"4 days\" } ]
    ";
    assert_eq!(ladder_of(text, "one-off", Class::Never), (vec![1], Finally::Pause));
    assert_eq!(ladder_of(text, "one-off", Class::Funds), (vec![2], Finally::Pause));
    assert_eq!(ladder_of(text, "pro", Class::Never), (vec![1], Finally::Uncollectible));
    assert_eq!(ladder_of(text, "pro", Class::Funds), (vec![2], Finally::Uncollectible));
    assert_eq!(ladder_of(text, "pro", Class::Generic), (vec![3], Finally::Uncollectible));
    assert_eq!(ladder_of(text, "own", Class::Never), (vec![4], Finally::Pause));
    assert_eq!(
        ladder_of(text, "own", Class::Funds),
        (vec![4], Finally::Pause),
        "its own steps are for all classes"
    );
    let bare = ladder_of("", "pro", Class::Funds);
    assert_eq!(bare, (vec![0, 3, 4, 5], Finally::Cancel));
}

#[test]
fn a_wrong_ladder_is_named_with_its_line() {
    let step = |step: &str| refusal(&format!("[dunning]\nsteps = [\n  {{ {step} }},\n]\n"));
    assert!(step("after = \"3 months\"").starts_with(":2: dunning.steps: \"3 months\" is not a delay"));
    assert!(step("after = \"1 day\", on = [\"payday\"]").contains("\"payday\" is no day to wait for"));
    assert!(step("after = \"1 day\", on = [\"32\"]").contains("no day to wait for"));
    assert!(refusal("[dunning]\nwindow = \"20-08\"\n").starts_with(":2: dunning.window: write local hours"));
    assert!(refusal("[dunning]\nweekdays = [\"mon\"]\n").contains("\"mon\" is not a weekday"));
    assert!(refusal("[dunning]\nretry = \"smart\"\n").contains("write \"ladder\" or \"stripe_advice\""));
    assert!(
        refusal("[dunning]\ngrace = \"soon\"\n").starts_with(":2: dunning.grace: \"soon\" is not a delay")
    );
    assert!(refusal("[dunning.classes.configuration]\nfinally = \"pause\"\n").contains("no ladder begins"));
    assert!(refusal("[dunning.classes.funds]\nshadow = \"ladder\"\n").contains("stand in [dunning] only"));
    assert!(refusal("[dunning.classes.fund]\nfinally = \"pause\"\n").contains("funds"));
    let nested = "[dunning.classes.funds.classes.never]\nfinally = \"pause\"\n";
    assert!(refusal(nested).contains("stand in [dunning] only"));
}

#[test]
fn a_notice_is_shorter_than_the_period_and_seldom_charges_have_one_unless_they_say_otherwise() {
    let plan = |every: &str, notice: &str| {
        let text = format!("[plans.p]\nname = \"P\"\nprice = \"9.00 EUR\"\nevery = \"{every}\"\n{notice}\n");
        load(&text, &[]).map(|config| config.plans["p"].notice_secs)
    };
    let days = |days: u32| days * 86_400;
    for (every, notice, secs) in [
        ("1 month", "", 0),
        ("6 months", "", 0),
        ("7 months", "", days(7)),
        ("1 year", "", days(7)),
        ("1 year", "notice_before = \"0 days\"", 0),
        ("1 year", "notice_before = \"15 days\"", days(15)),
        ("1 month", "notice_before = \"36 hours\"", 36 * 3600),
    ] {
        assert_eq!(plan(every, notice).unwrap(), secs, "{every} {notice}");
    }
    for (keys, message) in [
        ("notice_for = [\"renewal\"]", "notice_for: say how long before"),
        ("notice_before = \"7 days\"\nnotice_for = [\"trial end\"]", "notice_for: the plan has no trial"),
        ("notice_before = \"7 days\"\nnotice_for = []", "notice_for: name \"trial end\""),
        ("notice_before = \"7 days\"\nnotice_for = [\"price change\"]", "price change"),
    ] {
        let error = plan("1 month", keys).unwrap_err().to_string();
        assert!(error.contains(message), "{keys}: {error}");
    }
    let error = plan("1 week", "notice_before = \"7 days\"").unwrap_err().to_string();
    assert!(error.contains("plans.p.notice_before: must be shorter"), "{error}");
    assert!(plan("1 month", "notice_before = \"soon\"").is_err());
}
