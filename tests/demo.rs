//! The demo is the project's own end-to-end story; here it runs twice and must tell the same one.

use std::path::PathBuf;

use recurd::config::Config;
use recurd::demo::{Audit, Walked, World, WorldOptions, audit_demo, walk};
use recurd::flows::figures::{self, Recovery, Timing};

async fn told(seed: u64) -> (Audit, Walked, Recovery, Timing) {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let dir = std::env::temp_dir().join(format!("recurd-test-demo-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(&dir).unwrap();
    let env = std::collections::BTreeMap::new();
    let mut config = Config::load_with(Some(&root.join("schedules.toml")), &env).unwrap();
    config.public_url = Some("http://127.0.0.1:8080".into());
    let start = "2026-01-01T00:00:00Z".parse().unwrap();
    let options = WorldOptions { seed, start, dir: dir.clone(), config, database_url: None, mailer: None };
    let world = World::new(options).await.unwrap();
    let walked = walk(&world, &root.join("examples/customers.csv"), |_| {}).await.unwrap();
    let audit = audit_demo(&world).await.unwrap();
    let recovery = figures::recovery(&world.ctx.store, start, |_| {}).await.unwrap();
    let timing = figures::timing(&world.ctx.store, start, |_| {}).await.unwrap();
    let by_machine = world.sandbox.books().charges.iter().filter(|charge| !charge.on_session).count() as u64;
    assert_eq!(timing.tries, by_machine, "every off-session charge at Stripe is one try of the report");
    world.ctx.store.close().await;
    std::fs::remove_dir_all(&dir).unwrap();
    (audit, walked, recovery, timing)
}

fn line<'a>(audit: &'a Audit, name: &str) -> &'a recurd::demo::Line {
    audit.lines.iter().find(|line| line.name == name).unwrap()
}

#[tokio::test]
async fn nothing_is_collected_twice_or_forgotten_and_each_card_ends_where_it_should() {
    let (audit, walked, recovery, timing) = told(1).await;
    assert!(audit.findings.is_empty(), "{:#?}", audit.findings);
    assert!(walked.problems.is_empty(), "{:#?}", walked.problems);
    assert_eq!(audit.ours, audit.stripes);
    let ends = |name: &str| {
        let line = line(&audit, name);
        (line.collected, line.by_retry, line.by_link, line.given_up)
    };
    assert_eq!(ends("Ada"), (3, 0, 0, 0), "a good card");
    assert_eq!(ends("Dan"), (2, 1, 0, 0), "no funds three times, then a machine retry collects");
    assert_eq!(ends("Finn"), (2, 0, 1, 0), "a lost card: paid by link, then the new card is charged");
    assert_eq!(ends("Inés"), (2, 0, 1, 0), "authentication: paid by link");
    assert_eq!(ends("Grace"), (0, 0, 0, 1), "always declined: the ladder ends");
    assert_eq!(ends("Kim"), (3, 0, 0, 0), "a lost answer is no decline");
    assert_eq!(ends("Jonas"), (3, 0, 0, 0), "a late answer is no decline");
    assert_eq!(ends("Lena"), (3, 0, 0, 0), "a 500 that was executed is no decline");
    the_report_adds_up(&audit, &recovery, &timing);
}

/// With what the audit read in Stripe's books.
fn the_report_adds_up(audit: &Audit, recovery: &Recovery, timing: &Timing) {
    let sum = |count: fn(&recurd::demo::Line) -> u64| audit.lines.iter().map(count).sum::<u64>();
    let all = &recovery.all;
    assert_eq!((all.by_machine, all.by_link), (sum(|line| line.by_retry), sum(|line| line.by_link)));
    assert_eq!((all.unpaid, recovery.open), (sum(|line| line.given_up), sum(|line| line.open)));
    assert_eq!(recovery.cases, all.recovered.of + recovery.open);
    let by = |groups: &std::collections::BTreeMap<String, figures::Decided>| {
        groups.values().map(|one| one.by_machine + one.by_link + one.unpaid).sum::<u64>()
    };
    assert_eq!((by(&recovery.by_class), by(&recovery.by_brand)), (all.recovered.of, all.recovered.of));
    let days: u64 = recovery.days.iter().map(|day| day.by_machine + day.by_link).sum();
    let steps: u64 = recovery.by_step.iter().map(|share| share.count).sum();
    assert_eq!((days, steps), (all.recovered.count, all.recovered.count));
    let paid: u64 = timing.by_attempt.values().map(|share| share.count).sum();
    assert_eq!(paid + all.by_link, audit.charges, "each is paid by a try or on a page");
    let retries: u64 = timing.by_class.values().map(|share| share.count).sum();
    assert_eq!(retries, all.by_machine);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_sums() {
    let (one, other) = (told(7).await.0, told(7).await.0);
    assert_eq!(one.ours, other.ours);
    assert_eq!(one.charges, other.charges);
}
