//! What a driver must remember about its platform.

use super::*;

pub(super) async fn what_aws_was_told_is_written_by_one_at_a_time(db: &Database) {
    let store = db.open().await;
    let row = |body: &str| AwsRow {
        kind: "rule".to_owned(),
        owner: "1".to_owned(),
        name: "17".to_owned(),
        body: body.to_owned(),
    };
    let revision = saved(&store, async |uow| uow.aws_revision().await).await;
    for (body, counts) in [("first", true), ("late", false)] {
        let mut uow = store.begin().await.expect("a transaction");
        assert_eq!(uow.raise_aws_revision(revision).await.expect("answered"), counts);
        if counts {
            uow.put_aws_row(&row(body)).await.expect("put");
            uow.save().await.expect("saved");
        }
    }
    saved(&store, async |uow| uow.put_aws_row(&row("second")).await).await;
    let mut uow = store.begin().await.expect("a transaction");
    assert_eq!(uow.aws_rows().await.expect("rows"), [row("second")], "one rule for one priority");
    assert_eq!(uow.aws_row("rule", "1", "17").await.expect("a look").as_deref(), Some("second"));
    assert_eq!(uow.aws_revision().await.expect("a look"), revision + 1);
    uow.delete_aws_row("rule", "1", "17").await.expect("gone");
    uow.delete_aws_row("rule", "1", "17").await.expect("gone twice");
    assert_eq!(uow.aws_row("rule", "1", "17").await.expect("a look"), None);
}

pub(super) async fn tasks_never_share_a_slot(db: &Database) {
    let store = db.open().await;
    let (app, web) = (paas_domain::AppId::new(), process("web"));
    for (task, slot) in [("a", 1), ("b", 2), ("a", 1)] {
        assert_eq!(saved(&store, async |uow| uow.take_aws_slot(&app, &web, task).await).await, slot);
    }
    saved(&store, async |uow| uow.free_aws_slot("a").await).await;
    assert_eq!(saved(&store, async |uow| uow.take_aws_slot(&app, &web, "c").await).await, 1);
    let slots = saved(&store, async |uow| uow.aws_slots(&app).await).await;
    let slots: Vec<_> = slots.iter().map(|slot| (slot.slot, slot.task.as_str())).collect();
    assert_eq!(slots, [(1, "c"), (2, "b")]);
}
