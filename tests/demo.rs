//! The demo is the project's own end-to-end story; here it runs twice and must tell the same one.

use std::path::PathBuf;

use recurd::config::Config;
use recurd::demo::{Audit, Walked, World, WorldOptions, audit, walk};

async fn told(seed: u64) -> (Audit, Walked) {
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
    let audit = audit(&world).await.unwrap();
    world.ctx.store.close().await;
    std::fs::remove_dir_all(&dir).unwrap();
    (audit, walked)
}

fn line<'a>(audit: &'a Audit, name: &str) -> &'a recurd::demo::Line {
    audit.lines.iter().find(|line| line.name == name).unwrap()
}

#[tokio::test]
async fn nothing_is_collected_twice_or_forgotten_and_each_card_ends_where_it_should() {
    let (audit, walked) = told(1).await;
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
}

#[tokio::test]
async fn the_same_seed_gives_the_same_sums() {
    let (one, other) = (told(7).await.0, told(7).await.0);
    assert_eq!(one.ours, other.ours);
    assert_eq!(one.charges, other.charges);
}
