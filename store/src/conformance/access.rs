//! Keys, webhooks and the audit log.

use domain::access::{Scope as May, Scopes};
use domain::{ApiKeyId, AuditId, RequestId, Role, WebhookId};

use super::*;

pub(super) fn key(n: u32, of: &str) -> ApiKeyRecord {
    let now = at(i64::from(n));
    ApiKeyRecord {
        id: ApiKeyId::from_parts(now, u128::from(n)),
        user: user(of),
        role: Role::Member,
        name: format!("key {n}"),
        hash: [n as u8; 32],
        scopes: Scopes::from_iter([May::TasksRead, May::WebhooksManage]),
        created_at: now,
        updated_at: now,
        expires_at: n.is_multiple_of(2).then(|| at(1_000)),
        revoked_at: None,
        last_used_at: None,
    }
}

fn webhook(n: u32, of: &str) -> WebhookRecord {
    let now = at(i64::from(n));
    WebhookRecord {
        id: WebhookId::from_parts(now, u128::from(n)),
        user: user(of),
        role: Role::Owner,
        name: format!("webhook {n}"),
        signature: if n.is_multiple_of(2) { Signature::Plain } else { Signature::Strict },
        generation: 1,
        previous_until: None,
        created_at: now,
        updated_at: now,
        revoked_at: None,
        last_used_at: None,
    }
}

pub(super) async fn a_key_comes_back_as_it_was(store: Store) {
    for n in 1..=2 {
        store.api_key_create(key(n, "ann")).await.unwrap();
        assert_eq!(store.api_key_get(key(n, "ann").id).await.unwrap(), Some(key(n, "ann")));
    }
    assert_eq!(store.api_key_get(key(3, "ann").id).await.unwrap(), None);
    let twice = store.api_key_create(ApiKeyRecord { hash: [9; 32], ..key(1, "eve") }).await;
    assert!(twice.is_err(), "an id is given once");
    assert_eq!(store.api_key_get(key(1, "ann").id).await.unwrap(), Some(key(1, "ann")));
    let bare = ApiKeyRecord { scopes: Scopes::default(), ..key(4, "ann") };
    store.api_key_create(bare.clone()).await.unwrap();
    assert_eq!(store.api_key_get(bare.id).await.unwrap(), Some(bare), "without a scope");
}

pub(super) async fn a_key_is_revoked_once_by_its_user(store: Store) {
    let made = key(1, "ann");
    store.api_key_create(made.clone()).await.unwrap();
    let (ann, eve) = (user("ann"), user("eve"));
    let revoke =
        async |of: Option<&UserId>, second| store.api_key_revoke(made.id, of, at(second)).await.unwrap();
    assert_eq!(revoke(Some(&eve), 5).await, Touched::NoSuch);
    assert_eq!(store.api_key_get(made.id).await.unwrap(), Some(made.clone()));
    let gone = ApiKeyRecord { revoked_at: Some(at(6)), updated_at: at(6), ..made.clone() };
    assert_eq!(revoke(Some(&ann), 6).await, Touched::Done(gone.clone()));
    assert_eq!(revoke(Some(&ann), 7).await, Touched::Revoked(gone.clone()));
    assert_eq!(revoke(None, 8).await, Touched::Revoked(gone.clone()));
    assert_eq!(revoke(Some(&eve), 8).await, Touched::NoSuch);
    assert_eq!(store.api_key_get(made.id).await.unwrap(), Some(gone));
    assert_eq!(store.api_key_revoke(key(2, "ann").id, None, at(9)).await.unwrap(), Touched::NoSuch);
    store.api_key_create(key(3, "ann")).await.unwrap();
    let anyone = store.api_key_revoke(key(3, "ann").id, None, at(9)).await.unwrap();
    assert!(matches!(anyone, Touched::Done(_)), "{anyone:?}");
}

pub(super) async fn the_last_use_never_goes_back(store: Store) {
    store.api_key_create(key(1, "ann")).await.unwrap();
    store.webhook_create(webhook(1, "ann")).await.unwrap();
    for (second, noted) in [(10, 10), (5, 10), (20, 20), (20, 20)] {
        store.api_key_used(key(1, "ann").id, at(second)).await.unwrap();
        store.webhook_used(webhook(1, "ann").id, at(second)).await.unwrap();
        let now = store.api_key_get(key(1, "ann").id).await.unwrap().unwrap();
        assert_eq!(
            (now.last_used_at, now.updated_at),
            (Some(at(noted)), at(1)),
            "using it changes nothing else"
        );
        let now = store.webhook_get(webhook(1, "ann").id).await.unwrap().unwrap();
        assert_eq!(now.last_used_at, Some(at(noted)));
    }
    store.api_key_used(key(2, "ann").id, at(1)).await.unwrap();
}

/// D-016: lists of webhooks had short pages.
pub(super) async fn keys_and_webhooks_are_listed_newest_first_in_full_pages(store: Store) {
    for n in 0..12 {
        let of = if n % 3 == 0 { "bob" } else { "ann" };
        store.api_key_create(key(n, of)).await.unwrap();
        store.webhook_create(webhook(n, of)).await.unwrap();
        if n % 4 == 1 {
            store.api_key_revoke(key(n, of).id, None, at(50)).await.unwrap();
            store.webhook_revoke(webhook(n, of).id, None, at(50)).await.unwrap();
        }
    }
    for (of, revoked, want) in [
        (Some("ann"), Revoked::Hidden, vec![11, 10, 8, 7, 4, 2]),
        (Some("ann"), Revoked::Shown, vec![11, 10, 8, 7, 5, 4, 2, 1]),
        (Some("eve"), Revoked::Shown, vec![]),
        (None, Revoked::Hidden, vec![11, 10, 8, 7, 6, 4, 3, 2, 0]),
    ] {
        let (mut keys, mut webhooks) = (vec![], vec![]);
        loop {
            let before = keys.last().map(|k: &ApiKeyRecord| k.id);
            let filter = OwnedFilter { user: of.map(user), revoked, before, limit: 2 };
            let page = store.api_key_list(filter).await.unwrap();
            let before = webhooks.last().map(|w: &WebhookRecord| w.id);
            let filter = OwnedFilter { user: of.map(user), revoked, before, limit: 2 };
            webhooks.extend(store.webhook_list(filter).await.unwrap());
            let full = page.len() == 2;
            keys.extend(page);
            if !full {
                break;
            }
        }
        let names: Vec<String> = want.iter().map(|n| format!("key {n}")).collect();
        assert_eq!(keys.iter().map(|k| k.name.clone()).collect::<Vec<_>>(), names, "{of:?} {revoked:?}");
        let names: Vec<String> = want.iter().map(|n| format!("webhook {n}")).collect();
        assert_eq!(webhooks.iter().map(|w| w.name.clone()).collect::<Vec<_>>(), names, "{of:?} {revoked:?}");
    }
}

pub(super) async fn a_webhook_is_rotated_until_it_is_revoked(store: Store) {
    let made = webhook(1, "ann");
    store.webhook_create(made.clone()).await.unwrap();
    assert_eq!(store.webhook_get(made.id).await.unwrap(), Some(made.clone()));
    assert!(store.webhook_create(made.clone()).await.is_err(), "an id is given once");
    let (ann, eve) = (user("ann"), user("eve"));
    assert_eq!(store.webhook_rotate(made.id, Some(&eve), at(99), at(5)).await.unwrap(), Touched::NoSuch);
    let second =
        WebhookRecord { generation: 2, previous_until: Some(at(99)), updated_at: at(6), ..made.clone() };
    assert_eq!(
        store.webhook_rotate(made.id, Some(&ann), at(99), at(6)).await.unwrap(),
        Touched::Done(second.clone())
    );
    assert_eq!(store.webhook_get(made.id).await.unwrap(), Some(second.clone()));
    assert_eq!(store.webhook_revoke(made.id, Some(&eve), at(7)).await.unwrap(), Touched::NoSuch);
    let gone = WebhookRecord { revoked_at: Some(at(8)), updated_at: at(8), ..second };
    assert_eq!(store.webhook_revoke(made.id, None, at(8)).await.unwrap(), Touched::Done(gone.clone()));
    for touched in [
        store.webhook_rotate(made.id, Some(&ann), at(99), at(9)).await.unwrap(),
        store.webhook_revoke(made.id, Some(&ann), at(9)).await.unwrap(),
    ] {
        assert_eq!(touched, Touched::Revoked(gone.clone()));
    }
    assert_eq!(store.webhook_get(made.id).await.unwrap(), Some(gone));
}

pub(super) async fn rotations_at_once_are_all_counted(store: Store) {
    let made = webhook(1, "ann");
    store.webhook_create(made.clone()).await.unwrap();
    let rotated = at_once((0..8).map(|_| {
        let (store, id) = (store.clone(), made.id);
        async move { store.webhook_rotate(id, None, at(99), at(5)).await.unwrap() }
    }))
    .await;
    let mut generations: Vec<_> = rotated
        .into_iter()
        .map(|touched| match touched {
            Touched::Done(webhook) => webhook.generation,
            other => panic!("{other:?}"),
        })
        .collect();
    generations.sort();
    assert_eq!(generations, [2, 3, 4, 5, 6, 7, 8, 9], "no two get the same secret");
}

pub(super) async fn a_delivery_is_taken_in_once(store: Store) {
    let (one, two) = (webhook(1, "ann"), webhook(3, "ann"));
    store.webhook_create(one.clone()).await.unwrap();
    store.webhook_create(two.clone()).await.unwrap();
    let delivery = |webhook: WebhookId, id: &str, signed_at, forget_before| Delivery {
        webhook,
        id: id.into(),
        signed_at,
        forget_before,
    };
    let claim = async |d: Delivery| store.webhook_claim(d).await.unwrap();
    assert!(claim(delivery(one.id, "a", 100, 0)).await);
    assert!(!claim(delivery(one.id, "a", 100, 0)).await, "the same again");
    assert!(claim(delivery(one.id, "a", 101, 0)).await, "signed anew");
    assert!(claim(delivery(one.id, "b", 100, 0)).await, "another");
    assert!(claim(delivery(two.id, "a", 100, 0)).await, "of another webhook");
    assert!(claim(delivery(one.id, "c", 500, 101)).await);
    assert!(!claim(delivery(one.id, "a", 101, 101)).await, "not forgotten yet");
    assert!(claim(delivery(one.id, "a", 100, 100)).await, "forgotten: nothing so old comes in any more");
    assert!(!claim(delivery(two.id, "a", 100, 100)).await, "what one forgets another keeps");
    let raced = at_once((0..8).map(|_| {
        let (store, d) = (store.clone(), delivery(one.id, "race", 600, 500));
        async move { store.webhook_claim(d).await.unwrap() }
    }))
    .await;
    assert_eq!(raced.into_iter().filter(|taken| *taken).count(), 1);
}

pub(super) async fn the_audit_log_is_read_newest_first_by_who_what_and_of_what(store: Store) {
    let line = |n: u32, actor: &str, action: &str, object: Option<&str>| AuditRecord {
        id: AuditId::from_parts(at(i64::from(n)), u128::from(n)),
        at: at(i64::from(n)),
        actor: user(actor),
        authenticated_by: "api_key".into(),
        credential: n.is_multiple_of(2).then(|| format!("k{n}")),
        action: action.into(),
        object: object.map(str::to_owned),
        status: 200 + n as u16,
        request: RequestId::from_parts(at(0), u128::from(n)),
    };
    let all = [
        line(1, "ann", "task.create", Some("T1")),
        line(2, "bob", "task.cancel", Some("T1")),
        line(3, "ann", "api_key.create", None),
        line(4, "ann", "task.cancel", Some("T2")),
    ];
    store.audit_append(all[..3].to_vec()).await.unwrap();
    store.audit_append(all[2..].to_vec()).await.unwrap();
    store.audit_append(Vec::new()).await.unwrap();
    let read =
        async |filter: AuditFilter| store.audit_list(AuditFilter { limit: 10, ..filter }).await.unwrap();
    let none = AuditFilter::default;
    let newest_first: Vec<_> = all.iter().rev().cloned().collect();
    assert_eq!(read(none()).await, newest_first, "each once");
    let pick = |wanted: &[usize]| wanted.iter().map(|n| all[n - 1].clone()).collect::<Vec<_>>();
    assert_eq!(read(AuditFilter { actor: Some(user("ann")), ..none() }).await, pick(&[4, 3, 1]));
    assert_eq!(read(AuditFilter { action: Some("task.cancel".into()), ..none() }).await, pick(&[4, 2]));
    assert_eq!(read(AuditFilter { object: Some("T1".into()), ..none() }).await, pick(&[2, 1]));
    let both = AuditFilter { actor: Some(user("ann")), object: Some("T1".into()), ..none() };
    assert_eq!(read(both).await, pick(&[1]));
    assert_eq!(read(AuditFilter { before: Some(all[2].id), ..none() }).await, pick(&[2, 1]));
    let page = store.audit_list(AuditFilter { limit: 2, ..none() }).await.unwrap();
    assert_eq!(page, pick(&[4, 3]));
}
