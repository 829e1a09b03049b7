//! What commands answer: the same facts as a table and as JSON; a dry run changes nothing.

use std::time::Duration;

use recurd::clock::Clock;
use serde_json::{Value, json};

use crate::real::scene::{Sandbox, Shop, customers, yesterday};

/// Three customers: one who pays, one whose card has no funds, one whose charge was never tried.
fn shop_with_a_past(sandbox: &Sandbox) -> Shop {
    let shop = Shop::new(sandbox).set("HTTP__PUBLIC_URL", "http://127.0.0.1:8080");
    let mut list = customers(1, "pm_card_visa");
    let poor = customers(2, "pm_card_visa_chargeDeclinedInsufficientFunds");
    list.push_str(poor.lines().nth(2).unwrap());
    list.push('\n');
    shop.import(sandbox, &list);
    shop.done(&["run"]);
    let add = ["charges", "add", "--customer", "cus_cli0", "--amount", "120.00 EUR", "--due", "2099-12-01"];
    shop.done(&[&add[..], &["--description", "Balance"]].concat());
    shop
}

/// Asserts that a command's table has every fact, each taken from its JSON.
fn same_facts(shop: &Shop, args: &[&str], facts: impl Fn(&Value) -> Vec<String>) {
    let table = shop.recurd(args);
    let as_json = shop.recurd(&[args, &["--json"]].concat());
    assert_eq!(table.code, as_json.code, "{args:?}: {table}{as_json}");
    let facts = facts(&as_json.json());
    assert!(!facts.is_empty(), "{args:?}: no facts");
    for fact in facts {
        assert!(
            table.out.contains(&fact),
            "recurd {}: {fact:?} is missing:\n{table}\n{as_json}",
            args.join(" ")
        );
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn of_each<'a>(keys: &'a [&str]) -> impl Fn(&Value) -> Vec<String> + 'a {
    |answer| {
        let rows = answer.as_array().unwrap();
        rows.iter().flat_map(|row| keys.iter().map(|key| text(&row[*key]))).collect()
    }
}

fn short(id: &Value) -> String {
    id.as_str().unwrap().split('-').next().unwrap().to_owned()
}

#[test]
fn tables_and_json_say_the_same() {
    let sandbox = Sandbox::start();
    let shop = shop_with_a_past(&sandbox);
    same_facts(
        &shop,
        &["customers", "list"],
        of_each(&["id", "stripe_customer", "email", "name", "card_last4"]),
    );
    same_facts(&shop, &["subscriptions", "list"], of_each(&["id", "plan", "state", "time_zone"]));
    let charge = |row: &Value| {
        let amount = row["amount_minor"].as_i64().unwrap();
        let amount =
            format!("{}.{:02} {}", amount / 100, amount % 100, text(&row["currency"]).to_uppercase());
        vec![
            short(&row["id"]),
            short(&row["customer"]),
            amount,
            text(&row["state"]),
            text(&row["description"]),
            text(&row["next"]),
        ]
    };
    same_facts(&shop, &["charges", "list"], |answer| {
        answer.as_array().unwrap().iter().flat_map(charge).collect()
    });
    let all = shop.done(&["charges", "list", "--json"]).json();
    assert_eq!(all.as_array().unwrap().len(), 3);
    for row in all.as_array().unwrap() {
        let id = row["id"].as_str().unwrap();
        same_facts(&shop, &["charges", "show", id], |answer| charge(&answer[0]));
        same_facts(&shop, &["explain", id], |answer| {
            let mut facts =
                vec![id.to_owned(), text(&answer["charge"]["state"]), text(&answer["charge"]["next"])];
            for attempt in answer["story"]["attempts"].as_array().unwrap() {
                facts.extend([text(&attempt["idempotency_key"]), text(&attempt["request_id"])]);
            }
            facts
        });
    }
    let customer = ["customers", "show", "c0@example.com"];
    same_facts(&shop, &customer, |answer| {
        vec![text(&answer["customer"]["id"]), text(&answer["subscriptions"][0]["id"])]
    });
    let subscription = text(&shop.done(&["subscriptions", "list", "--json"]).json()[0]["id"]);
    same_facts(&shop, &["subscriptions", "show", &subscription], of_each(&["id", "plan", "state"]));
}

#[test]
fn overviews_say_the_same_as_their_json() {
    let sandbox = Sandbox::start();
    let shop = shop_with_a_past(&sandbox);
    same_facts(&shop, &["status"], |answer| {
        let totals = answer["totals"].as_array().unwrap().iter();
        let mut facts: Vec<String> = totals.map(|total| text(&total["state"])).collect();
        facts.push(format!("due now {}", answer["awake"]));
        facts.push(format!("mails waiting {}", answer["outbox_pending"]));
        facts.push(format!("waiting for a person {}", answer["attention"]["needs_review"]));
        facts.extend(answer["runs"].as_array().unwrap().iter().map(|run| text(&run["job"])));
        facts
    });
    same_facts(&shop, &["doctor"], of_each(&["what", "found"]));
    same_facts(&shop, &["check"], |answer| {
        assert_eq!(answer["valid"], true);
        let plans = answer["plans"].as_object().unwrap();
        plans.iter().flat_map(|(name, terms)| [name.clone(), text(&terms["name"])]).collect()
    });
    same_facts(&shop, &["migrate"], |answer| vec![answer["now"].to_string()]);
    same_facts(&shop, &["run", "--dry-run"], |answer| {
        answer.as_object().unwrap().iter().flat_map(|(job, count)| [job.clone(), count.to_string()]).collect()
    });
    same_facts(&shop, &["run"], |answer| answer["jobs"].as_object().unwrap().keys().cloned().collect());
    same_facts(&shop, &["customers", "import", "customers.csv", "--dry-run"], |answer| {
        vec![format!("{} lines", answer["lines"])]
    });
    let schema = shop.done(&["check", "--schema"]).json();
    assert!(schema["properties"]["plans"].is_object());
}

#[test]
fn every_change_answers_with_json() {
    let sandbox = Sandbox::start();
    let shop = shop_with_a_past(&sandbox);
    let say = |args: &[&str]| shop.done(&[args, &["--json"]].concat()).json();
    let customer = say(&["customers", "add", "--email", "new@example.com", "--name", "New"])[0]["id"].clone();
    let customer = customer.as_str().unwrap();
    assert_eq!(say(&["customers", "release", customer])["email"], "new@example.com");
    let tried = say(&["customers", "email", customer, "newer@example.com", "--dry-run"]);
    assert_eq!(
        (&tried["customer"]["email"], &tried["changes"]["at_stripe"]),
        (&json!("new@example.com"), &json!(true))
    );
    let corrected = say(&["customers", "email", customer, "newer@example.com"]);
    assert_eq!(corrected["customer"]["email"], "newer@example.com");
    let added = say(&["subscriptions", "add", "--customer", customer, "--plan", "pro"]);
    assert_eq!((&added[0]["plan"], &added[0]["state"]), (&json!("pro"), &json!("pending")));
    let enrolled = say(&["enroll", "--email", "page@example.com", "--plan", "basic"]);
    assert!(enrolled["url"].as_str().unwrap().starts_with(&format!("{}/c/pay/cs_test_", sandbox.url)));
    let theirs = say(&["customers", "show", "cus_cli0"]);
    let id = theirs["subscriptions"][0]["id"].as_str().unwrap();
    assert_eq!(say(&["subscriptions", "pause", id, "--why", "holiday"])["state"], "paused");
    assert_eq!(say(&["subscriptions", "resume", id])["state"], "active");
    let ended = say(&["subscriptions", "cancel", id]);
    assert_eq!(ended["subscription"]["state"], "canceled");
    let balance = say(&["charges", "list", "--state", "due"])[0]["id"].clone();
    let balance = balance.as_str().unwrap();
    assert_eq!(say(&["charges", "collect", balance])[0]["state"], "due");
    assert_eq!(say(&["charges", "mark-paid", balance])[0]["state"], "settled");
    let poor = say(&["charges", "list", "--state", "past_due"])[0]["id"].clone();
    assert_eq!(say(&["charges", "cancel", poor.as_str().unwrap()])[0]["state"], "closing");
    assert_eq!(
        say(&["halt", "--why", "wrong prices"]),
        json!({ "halted_why": "wrong prices", "changed": true })
    );
    assert_eq!(shop.recurd(&["status"]).code, Some(1), "a person should know that nothing is charged");
    assert_eq!(say(&["resume", "--why", "right prices"])["changed"], true);
    let story = say(&["explain", balance]);
    assert_eq!(story["story"]["audit"][0]["who"], "tester");
}

#[test]
fn a_dry_run_changes_nothing() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox);
    shop.import(&sandbox, &customers(3, "pm_card_visa"));
    shop.done(&["run", "--job", "materialize"]);
    shop.database.execute("UPDATE subscription SET next_due_at = next_due_at - 100000000");
    let before = shop.database.everything();
    let answer = shop.done(&["run", "--dry-run", "--json"]).json();
    assert_eq!((&answer["materialize"], &answer["collect"]), (&json!(3), &json!(3)));
    let table = shop.done(&["run", "--dry-run", "--job", "collect"]);
    assert!(table.out.contains("Nothing was done.") && !table.out.contains("materialize"), "{table}");
    shop.done(&["halt", "--why", "wrong prices", "--dry-run"]);
    shop.write("more.csv", &customers(5, "pm_card_visa"));
    let import = shop.done(&["customers", "import", "more.csv", "--dry-run"]);
    assert_eq!(import.out, "5 lines are good. Nothing was imported.\n");
    assert!(before == shop.database.everything(), "a dry run changed something");
    assert!(sandbox.paid().is_empty());
}

#[test]
fn looking_changes_nothing() {
    let sandbox = Sandbox::start();
    let shop = shop_with_a_past(&sandbox);
    let before = shop.database.everything();
    let id = text(&shop.done(&["charges", "list", "--json"]).json()[0]["id"]);
    let looks: [&[&str]; 8] = [
        &["check"],
        &["doctor"],
        &["status"],
        &["customers", "list"],
        &["subscriptions", "list"],
        &["charges", "list"],
        &["charges", "show", &id],
        &["explain", &id],
    ];
    for args in looks {
        shop.done(args);
    }
    assert!(before == shop.database.everything(), "looking changed something");
}

#[test]
fn a_demo_leaves_its_story_to_be_read() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox);
    let demo = shop.done(&["demo", "--keep", "demo", "--json"]).json();
    assert_eq!(demo["audit"]["findings"], json!([]));
    assert_eq!(demo["audit"]["ours"], demo["audit"]["stripes"]);
    assert!(shop.dir.join("demo/mail").read_dir().unwrap().count() > 10);
    let refused = shop.recurd(&["demo", "--keep", "demo"]);
    assert_eq!(refused.code, Some(2), "{refused}");
    let shop = shop.unset("DATABASE__URL");
    let paid =
        shop.done(&["-c", "demo/schedules.toml", "charges", "list", "--state", "paid", "--json"]).json();
    let story = shop.done(&["-c", "demo/schedules.toml", "explain", paid[0]["id"].as_str().unwrap()]);
    assert!(story.out.contains("is paid."), "{story}");
}

#[test]
fn mails_can_be_looked_at_and_sent() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox);
    let dir = shop.dir.join("preview");
    shop.done(&["mail", "preview", "--dir", dir.to_str().unwrap()]);
    let index = std::fs::read_to_string(dir.join("index.html")).unwrap();
    for locale in ["en", "de", "fr", "es", "zh"] {
        for mail in ["save_card", "upcoming_charge", "card_expiring", "payment_failed", "recovered"] {
            let name = format!("{locale}-{mail}-1.html");
            assert!(index.contains(&name) && dir.join(&name).exists(), "{name}");
        }
    }
    shop.done(&["mail", "test", "--to", "you@example.com", "--mail", "receipt", "--locale", "de-AT"]);
    let mails = shop.mails();
    assert_eq!(mails.len(), 1);
    assert!(
        mails[0].contains("Content-Language: de") && mails[0].contains("you@example.com"),
        "{}",
        mails[0]
    );
}

#[test]
fn a_charge_says_that_it_waits_for_its_notice() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox).set("MAIL__URL", "smtp://127.0.0.1:1");
    // A little more than the plan's fourteen days ahead.
    let due = Clock::system().now().checked_add(Duration::from_secs(14 * 86_400 + 1800)).unwrap();
    let csv =
        customers(1, "pm_card_visa").replace(&format!("basic,1,{}", yesterday()), &format!("patron,1,{due}"));
    shop.import(&sandbox, &csv);
    let unheard = shop.recurd(&["run"]);
    assert!(unheard.code.is_some(), "{unheard}");
    let charge = shop.done(&["charges", "list", "--json"]).json()[0].clone();
    let id = charge["id"].as_str().unwrap();
    assert_eq!(charge["state"], "due");
    assert!(charge["next"].as_str().unwrap().starts_with("tell the customer first: "), "{charge}");
    let shop = shop.set("MAIL__URL", "file:mail");
    shop.let_pass(600);
    shop.done(&["run"]);
    assert_eq!(shop.mails().len(), 1);
    for command in [["charges", "show", id], ["explain", id, "--json"]] {
        let told = shop.done(&command).out;
        let words = told.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("told"), "{told}");
    }
    let story = shop.done(&["explain", id]).out;
    assert!(story.contains("mail upcoming_charge left") && story.contains("Next: collect from "), "{story}");
    assert!(sandbox.paid().is_empty());
}
