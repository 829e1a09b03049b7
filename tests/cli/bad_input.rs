//! What is wrong is said with its file, key or line and with what to do, and nothing is half-done.

use crate::real::http;
use crate::real::process::Ended;
use crate::real::scene::{Sandbox, Shop, customers, yesterday};

const SAMPLE: &str = include_str!("../../schedules.toml");

/// Asserts an exit code and what standard error must and must not say.
fn refused(ended: &Ended, code: i32, says: &[&str]) {
    assert_eq!(ended.code, Some(code), "{ended}");
    for part in says {
        assert!(ended.err.contains(part), "{part:?} is not said:\n{ended}");
    }
    let ours = ended.err.starts_with("recurd: ");
    assert!(!ours || ended.err.lines().count() <= 6, "long-winded: {ended}");
    for noise in ["Error {", "panicked", "Some(", "_test_cli", "_live_cli", "u:secret"] {
        assert!(!ended.err.contains(noise), "{noise:?} is said:\n{ended}");
    }
}

/// The line of the sample file on which `part` stands, as a message names it.
fn place(part: &str) -> String {
    let line = SAMPLE.lines().position(|line| line.contains(part)).unwrap();
    format!("schedules.toml:{}: ", line + 1)
}

#[test]
fn a_wrong_configuration_is_refused_with_file_line_key_and_advice() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox).unset("HTTP__LISTEN");
    let cases: [(&str, &str, &[&str]); 15] = [
        ("lease_secs", "lease_sec", &["limits.lease_sec", "not a key", "did you mean `lease_secs`?"]),
        ("[plans.basic]", "[plan.basic]", &["plan", "not a key", "did you mean `plans`?"]),
        ("price = \"9.00 EUR\"", "price = 9.00", &["plans.basic.price", "as text, such as \"29.00 USD\""]),
        ("\"9.00 EUR\"", "\"9.00 EUX\"", &["plans.basic.price", "\"EUX\" is not a currency"]),
        ("\"9.00 EUR\"", "\"0.10 EUR\"", &["plans.basic.price", "0.10 EUR", "0.50"]),
        ("\"9.00 EUR\"", "\"9.001 EUR\"", &["plans.basic.price", "9.001"]),
        ("every = \"1 month\"", "every = \"monthly\"", &["plans.basic.every", "monthly", "1 month"]),
        ("\"Europe/Berlin\"", "\"Europe/Atlantis\"", &["schedules.timezone", "Atlantis"]),
        ("mode = \"test\"", "mode = \"prod\"", &["stripe.mode", "`prod` is not a value", "live"]),
        ("lease_secs = 300", "lease_secs = 10", &["limits.lease_secs", "twice stripe.timeout_secs"]),
        ("url = \"file:mail\"", "url = \"mailhost\"", &["mail.url", "smtp://HOST:PORT"]),
        (
            "collect = \"10 * * * * *\"",
            "collect = \"often\"",
            &["schedules.collect", "\"often\"", "second minute"],
        ),
        ("url = \"file:mail\"", "url = \"smtp://\"", &["mail.url", "host"]),
        ("color = \"#1a56db\"", "color = \"blue\"", &["brand.color", "blue"]),
        ("billing@example.com", "nobody", &["mail.from"]),
    ];
    for (good, bad, says) in cases {
        shop.write("schedules.toml", &SAMPLE.replacen(good, bad, 1));
        // What only ticks or mails need is looked at by those that need it, and by `check`.
        let late = ["often", "smtp://", "blue", "nobody"].iter().any(|word| bad.contains(word));
        let commands: &[&str] = if late { &["check", "serve"] } else { &["check", "run", "status"] };
        for command in commands {
            let ended = shop.recurd(&[command]);
            refused(&ended, 2, says);
            assert!(late || !shop.dir.join("recurd.db").exists(), "{bad}: a database was made");
            assert!(ended.err.starts_with(&format!("recurd: {}", place(good))), "{bad}: {ended}");
        }
    }
    assert!(sandbox.paid().is_empty());
}

#[test]
fn a_configuration_that_cannot_be_read_is_refused() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox);
    refused(&shop.recurd(&["-c", "missing.toml", "run"]), 2, &["missing.toml", "No such file"]);
    shop.write("schedules.toml", "[stripe]\nmode = test\"\n");
    refused(&shop.recurd(&["check"]), 2, &["schedules.toml", "2"]);
    shop.write("schedules.toml", SAMPLE);
    let shop = shop.set("STRIPE__TIMEOUT", "30");
    refused(&shop.recurd(&["check"]), 2, &["RECURD__STRIPE__TIMEOUT", "timeout_secs"]);
    let shop = shop.unset("STRIPE__TIMEOUT").set("STRIPE__TIMEOUT_SECS", "soon");
    refused(&shop.recurd(&["check"]), 2, &["RECURD__STRIPE__TIMEOUT_SECS", "whole number"]);
}

#[test]
fn keys_of_the_other_mode_and_missing_keys_are_refused() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox).set("STRIPE__SECRET_KEY", "sk_live_cli");
    refused(&shop.recurd(&["run"]), 2, &["stripe.secret_key", "live key", "mode = \"live\""]);
    let shop = shop.set("STRIPE__SECRET_KEY", "sk_test_cli").set("STRIPE__MODE", "live");
    refused(&shop.recurd(&["run"]), 2, &["stripe.secret_key", "test key", "stripe.mode"]);
    let shop = shop.set("STRIPE__MODE", "test").set("STRIPE__SECRET_KEY", "pk_test_cli");
    refused(&shop.recurd(&["run"]), 2, &["stripe.secret_key", "rk_"]);
    let shop = shop.unset("STRIPE__SECRET_KEY");
    refused(&shop.recurd(&["run"]), 2, &["RECURD__STRIPE__SECRET_KEY", "stripe.secret_key_file"]);
    // A live key leaves this machine for Stripe only.
    let shop = shop.set("STRIPE__SECRET_KEY", "sk_live_cli").set("STRIPE__MODE", "live");
    refused(&shop.recurd(&["run"]), 2, &["stripe.api_base", "api.stripe.com"]);
    assert_eq!(sandbox.requests(), 0, "Stripe was asked");
}

#[test]
fn neighbours_that_do_not_answer_are_named() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox);
    shop.import(&sandbox, &customers(2, "pm_card_visa"));
    let before = shop.database.everything();
    let shop = shop.set("STRIPE__API_BASE", "http://127.0.0.1:1");
    refused(&shop.recurd(&["run"]), 1, &["Stripe", "http://127.0.0.1:1"]);
    let doctor = shop.recurd(&["doctor"]);
    assert_eq!(doctor.code, Some(1));
    assert!(doctor.out.contains("FAIL stripe") && doctor.out.contains("ok   database"), "{doctor}");
    assert!(before == shop.database.everything(), "something changed");

    let shop =
        shop.set("STRIPE__API_BASE", &sandbox.url).set("DATABASE__URL", "postgres://u:secret@127.0.0.1:1/x");
    refused(&shop.recurd(&["run"]), 1, &["database", "postgres://u:***@127.0.0.1:1/x"]);
    let shop = shop.set("DATABASE__URL", "sqlite:///nowhere/recurd.db");
    refused(&shop.recurd(&["run"]), 1, &["/nowhere/recurd.db"]);
    let shop = shop.set("DATABASE__URL", "mysql://u:secret@h/x");
    refused(&shop.recurd(&["run"]), 2, &["sqlite://", "postgres://"]);
}

#[test]
fn a_mail_server_that_is_away_costs_no_mail() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox)
        .set("HTTP__PUBLIC_URL", "http://127.0.0.1:8080")
        .set("MAIL__URL", "smtp://127.0.0.1:1");
    shop.import(&sandbox, &customers(1, "pm_card_visa_chargeDeclinedInsufficientFunds"));
    let doctor = shop.recurd(&["doctor"]);
    assert_eq!(doctor.code, Some(1));
    assert!(doctor.out.contains("FAIL mail") && doctor.out.contains("127.0.0.1:1"), "{doctor}");
    let run = shop.done(&["run", "--json"]).json();
    assert_eq!(run["jobs"]["collect"]["outcomes"]["declined"], 1);
    assert_eq!(run["jobs"]["notify"]["outcomes"]["later"], 1);
    assert_eq!(shop.done(&["status", "--json"]).json()["outbox_pending"], 1);
    let shop = shop.unset("MAIL__URL");
    shop.database.execute("UPDATE outbox SET wake_at = wake_at - 86400 WHERE wake_at IS NOT NULL");
    shop.done(&["run"]);
    assert_eq!(shop.mails().len(), 1);
}

#[test]
fn the_database_of_another_account_is_refused() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox);
    shop.import(&sandbox, &customers(1, "pm_card_visa"));
    shop.database.execute("UPDATE instance SET stripe_account = 'acct_other'");
    let before = shop.database.everything();
    refused(&shop.recurd(&["run"]), 2, &["acct_other", "acct_1SandboxAccount00", "use another database"]);
    assert!(before == shop.database.everything(), "something changed");
    assert!(sandbox.paid().is_empty());
    shop.database.execute("UPDATE instance SET stripe_account = 'acct_1SandboxAccount00', mode = 'live'");
    refused(&shop.recurd(&["run"]), 2, &["live mode", "test mode", "use another database"]);
}

#[test]
fn a_list_with_bad_lines_imports_nothing_and_numbers_them() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox);
    let good = customers(2, "pm_card_visa");
    sandbox.control("seed_csv", &good);
    let day = yesterday();
    let bad = format!(
        "{good}\
         who,pm_card_visa_cli1,c@example.com,C,en,UTC,basic,1,{day},{day},yes\n\
         cus_a,card_1,c@example.com,C,en,UTC,basic,1,{day},{day},yes\n\
         cus_b,pm_1,nobody,C,en,UTC,basic,1,{day},{day},yes\n\
         cus_c,pm_1,c@example.com,C,en,Mars/Olympus,basic,1,{day},{day},yes\n\
         cus_d,pm_1,c@example.com,C,en,UTC,gold,1,{day},{day},yes\n\
         cus_e,pm_1,c@example.com,C,en,UTC,basic,none,{day},{day},yes\n\
         cus_f,pm_1,c@example.com,C,en,UTC,basic,1,someday,{day},yes\n\
         cus_g,pm_1,c@example.com,C,en,UTC,basic,1\n"
    );
    shop.write("customers.csv", &bad);
    let ended = shop.recurd(&["customers", "import", "customers.csv"]);
    assert_eq!(ended.code, Some(2), "{ended}");
    let words = [
        "\"who\"",
        "\"card_1\"",
        "\"nobody\"",
        "Mars/Olympus",
        "\"gold\"",
        "\"none\"",
        "\"someday\"",
        "8 fields",
    ];
    for (index, word) in words.iter().enumerate() {
        let begin = format!("customers.csv:{}: ", index + 4);
        let line = ended.err.lines().find(|line| line.starts_with(&begin));
        assert!(line.is_some_and(|line| line.contains(word)), "{begin}{word}\n{ended}");
    }
    assert!(ended.err.contains("8 of 10 lines are bad. Nothing was imported."), "{ended}");
    let json = shop.recurd(&["customers", "import", "customers.csv", "--json"]);
    assert_eq!(json.json()["bad"].as_array().unwrap().len(), 8);
    assert_eq!(shop.done(&["customers", "list", "--json"]).json().as_array().unwrap().len(), 0);
}

#[test]
fn a_list_with_a_card_that_stripe_does_not_know_imports_nothing() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox);
    let good = customers(450, "pm_card_visa");
    sandbox.control("seed_csv", &good);
    let day = yesterday();
    shop.write(
        "customers.csv",
        &format!("{good}cus_cli9,pm_lost,c@example.com,C,en,UTC,basic,1,{day},{day},yes\n"),
    );
    let ended = shop.recurd(&["customers", "import", "customers.csv"]);
    refused(&ended, 2, &["customers.csv:452: ", "pm_lost", "Nothing was imported."]);
    assert_eq!(shop.done(&["customers", "list", "--json"]).json().as_array().unwrap().len(), 0);
}

#[test]
fn a_file_that_is_no_list_is_refused() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox);
    refused(&shop.recurd(&["customers", "import", "missing.csv"]), 2, &["missing.csv", "No such file"]);
    shop.write("list.csv", "");
    refused(&shop.recurd(&["customers", "import", "list.csv"]), 2, &["list.csv", "the first line"]);
    shop.write("list.csv", "customer,email\ncus_1,a@example.com\n");
    refused(
        &shop.recurd(&["customers", "import", "list.csv"]),
        2,
        &["list.csv", "payment_method", "consent_text"],
    );
    std::fs::write(shop.dir.join("list.csv"), customers(1, "pm_card_visa").replace("Customer", "\u{e9}"))
        .unwrap();
    let mut bytes = customers(1, "pm_card_visa").into_bytes();
    bytes.extend(b"cus_x,pm_x,x@example.com,\xff\xfe,en,UTC,basic,1,2026-01-01,,\n");
    std::fs::write(shop.dir.join("list.csv"), bytes).unwrap();
    refused(&shop.recurd(&["customers", "import", "list.csv"]), 2, &["list.csv:3: not UTF-8"]);
}

#[test]
fn names_that_do_not_exist_are_refused() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox);
    shop.import(&sandbox, &customers(1, "pm_card_visa"));
    let before = shop.database.everything();
    let add = ["subscriptions", "add", "--customer", "cus_cli0", "--plan", "gold"];
    refused(&shop.recurd(&add), 2, &["\"gold\"", "there are: basic, club, patron, pro, sofa, tokyo"]);
    refused(&shop.recurd(&["explain", "ch_1"]), 2, &["no charge \"ch_1\""]);
    refused(&shop.recurd(&["customers", "show", "nobody"]), 2, &["no customer \"nobody\""]);
    refused(&shop.recurd(&["subscriptions", "pause", "zzz"]), 2, &["no subscription \"zzz\""]);
    refused(&shop.recurd(&["charges", "list", "--state", "payed"]), 2, &["payed", "paid"]);
    let charge =
        ["charges", "add", "--customer", "cus_cli0", "--due", "2030-01-01", "--description", "Balance"];
    for (amount, says) in [("12,50 EUR", "12,50"), ("12.50 EUX", "EUX"), ("0.10 EUR", "0.10 EUR")] {
        refused(&shop.recurd(&[&charge[..], &["--amount", amount]].concat()), 2, &[says]);
    }
    assert!(before == shop.database.everything(), "something changed");
    for wrong in [&["charge"][..], &["run", "--job", "colect"], &["charges", "list", "--limit", "-1"], &[]] {
        assert_eq!(shop.recurd(wrong).code, Some(2), "{wrong:?}");
    }
}

#[test]
fn a_sandbox_is_reached_from_this_machine_only() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox);
    refused(&shop.recurd(&["sandbox", "--listen", "0.0.0.0:0"]), 2, &["this machine only", "127.0.0.1"]);
    let taken = sandbox.url.strip_prefix("http://").unwrap();
    refused(&shop.recurd(&["sandbox", "--listen", taken]), 1, &[taken, "in use"]);
    assert_eq!(http::get(&format!("{}/_sandbox/nothing", sandbox.url)).status, 400);
}

#[test]
fn a_damaged_database_file_is_refused_with_what_to_do_and_charges_nothing() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox);
    shop.import(&sandbox, &customers(3, "pm_card_visa"));
    let file = shop.dir.join("recurd.db");
    let good = std::fs::read(&file).unwrap();
    let zeroed = || [&good[..4096], &vec![0; good.len() - 4096][..]].concat();
    for (how, bytes) in [("cut", good[..40_000].to_vec()), ("zeroed", zeroed()), ("text", vec![b'x'; 9000])] {
        std::fs::write(&file, bytes).unwrap();
        let ended = shop.recurd(&["run"]);
        refused(&ended, 1, &["is damaged", "put a backup in its place", "recurd recover"]);
        let doctor = shop.recurd(&["doctor"]);
        assert_eq!(doctor.code, Some(1), "{how}: {doctor}");
        assert!(doctor.out.contains("FAIL database"), "{how}: {doctor}");
    }
    // A page that no start reads: only who looks at all of them sees it.
    let mut hidden = good.clone();
    let page = hidden.len() / 4096 - 1;
    hidden[page * 4096..].fill(0xff);
    std::fs::write(&file, hidden).unwrap();
    let doctor = shop.recurd(&["doctor"]);
    assert!(doctor.code == Some(1) && doctor.out.contains("the file is damaged"), "{doctor}");
    assert!(sandbox.paid().is_empty());
    std::fs::write(&file, good).unwrap();
    shop.done(&["run"]);
    assert_eq!(sandbox.paid().len(), 3);
}
