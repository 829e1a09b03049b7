use super::*;

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
    let error = plan("1 week", "notice_before = \"7 days\"").unwrap_err().to_string();
    assert!(error.contains("plans.p.notice_before: must be shorter"), "{error}");
    assert!(plan("1 month", "notice_before = \"soon\"").is_err());
}
