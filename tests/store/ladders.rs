//! Ladders on record, and what the reports read.

use recurd::billing::ladder::{Finally, Ladder, LadderId};

use crate::*;

on_both! {
    async fn a_ladder_is_written_down_once_whoever_comes_first(db: Db) {
        let ladders: Vec<Ladder> =
            (0..4).map(|days| Ladder { finally_after_secs: days * 86_400, ..Ladder::default() }).collect();
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..8 {
            let (store, mut ladders) = (db.store.clone(), ladders.clone());
            ladders.rotate_left(writer % 4);
            writers.spawn(async move {
                let mut written = Vec::new();
                for ladder in ladders {
                    written.push((ladder.finally_after_secs, store.ensure_ladder(&ladder, at(5)).await.unwrap()));
                }
                written.sort_unstable_by_key(|(secs, _)| *secs);
                written
            });
        }
        let all = writers.join_all().await;
        assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
        assert_eq!(db.number("SELECT COUNT(*) FROM ladder").await, 4);
        for (ladder, (_, id)) in ladders.iter().zip(&all[0]) {
            assert_eq!(db.store.ladder(*id).await.unwrap().as_ref(), Some(ladder));
        }
        assert_eq!(db.store.ladder(LadderId(99)).await.unwrap(), None);
        let other = Ladder { finally: Finally::Pause, ..Ladder::default() };
        assert!(!all[0].iter().any(|(_, id)| Some(*id) == Some(LadderId(5))));
        assert_eq!(db.store.ensure_ladder(&other, at(6)).await.unwrap(), LadderId(5));
    }

    async fn cases_and_tries_are_read_page_by_page(db: Db) {
        add_customers(&db.store, 0..3).await;
        add_charges(&db.store, (0..3).map(|number| due_charge(number, number, 0))).await;
        for number in 0..3 {
            for change in [begin, mark, declined] {
                let batch = [change(&read(&db.store, number).await, 10)];
                settle(&db.store, &batch, 10).await;
            }
        }
        let (first, rest) = (db.store.cases(at(0), "", 1).await.unwrap(), charge_id(0).to_string());
        assert_eq!((first.len(), first[0].id.as_str()), (1, rest.as_str()));
        assert_eq!((first[0].class.as_deref(), first[0].by_machine), (Some("funds"), true));
        assert_eq!((first[0].dunning_step, first[0].settled_at), (1, None));
        assert_eq!(db.store.cases(at(0), &rest, 9).await.unwrap().len(), 2);
        assert!(db.store.cases(at(11), "", 9).await.unwrap().is_empty(), "declined before");
        let tries = db.store.tries(at(0), ("", 0), 2).await.unwrap();
        assert_eq!((tries.len(), tries[0].state.as_str(), tries[0].class.as_deref()), (2, "declined", Some("funds")));
        assert_eq!(db.store.tries(at(0), (&tries[1].charge_id, tries[1].number), 9).await.unwrap().len(), 1);
        assert!(db.store.tries(at(1), ("", 0), 9).await.unwrap().is_empty(), "due before");
    }
}
