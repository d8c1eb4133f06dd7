use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn login(expires_in: Option<i64>) -> Login {
    let provider = Provider {
        issuer: "https://id.example".into(),
        client_id: "cli".into(),
        scopes: vec!["openid".into()],
        parameters: BTreeMap::new(),
        redirect_url: None,
        token: Shown::Id,
    };
    let tokens = Tokens {
        token: "secret-token".to_owned().into(),
        refresh: Some("secret-refresh".to_owned().into()),
        expires_at: expires_in.map(at),
    };
    Login::new("corp", &provider, "corp:ann", tokens, at(0))
}

fn env(folder: &Path) -> Env {
    Env::from([("XDG_CONFIG_HOME".to_owned(), folder.display().to_string())])
}

#[test]
fn a_token_is_renewed_before_it_ends_and_never_all_the_time() {
    for (life, now, want) in [
        (Some(3_600), 0, Age::Fresh),
        (Some(3_600), 3_299, Age::Fresh),
        (Some(3_600), 3_300, Age::Ending),
        (Some(3_600), 3_599, Age::Ending),
        (Some(3_600), 3_600, Age::Over),
        // Five minutes are a whole life here: a fifth of it is enough.
        (Some(300), 0, Age::Fresh),
        (Some(300), 240, Age::Ending),
        (Some(0), 0, Age::Over),
        (None, 1_000_000, Age::Fresh),
    ] {
        assert_eq!(login(life).age(at(now)), want, "{life:?} at {now}");
    }
}

#[tokio::test]
async fn logins_are_kept_by_server_in_a_file_of_their_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let env = env(folder.path());
    let (one, two) = (Url::parse("https://a.example/").unwrap(), Url::parse("https://b.example").unwrap());
    let mut locked = Locked::open(&env).await.unwrap();
    locked.all.put(&one, login(Some(60)));
    locked.all.put(&two, login(None));
    locked.save().unwrap();

    let path = paths::credentials_file(&env);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));

    let all = Credentials::load(&env).unwrap();
    assert_eq!(all.current.as_deref(), Some("https://b.example"));
    let slash = Url::parse("https://a.example").unwrap();
    let kept = all.login(&slash).unwrap();
    assert_eq!(kept.token().expose_secret(), "secret-token");
    assert_eq!(kept.refresh_token().unwrap().expose_secret(), "secret-refresh");
    assert!(!format!("{all:?}").contains("secret-"), "no secret in a debug print");

    let mut locked = Locked::open(&env).await.unwrap();
    assert!(locked.all.remove(&one).is_some() && locked.all.remove(&one).is_none());
    assert!(locked.all.current.is_some(), "the other one is still meant");
    locked.save().unwrap();
    assert!(Credentials::load(&env).unwrap().login(&one).is_none());
}

#[tokio::test]
async fn a_file_that_others_can_read_is_closed_and_a_damaged_one_is_told_without_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let env = env(folder.path());
    let mut locked = Locked::open(&env).await.unwrap();
    locked.all.put(&Url::parse("https://a.example").unwrap(), login(None));
    locked.save().unwrap();
    let path = paths::credentials_file(&env);
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    Credentials::load(&env).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    std::fs::write(&path, "{\"servers\": \"secret-token\"}").unwrap();
    let told = Credentials::load(&env).unwrap_err();
    assert!(told.message.contains("damaged") && !told.message.contains("secret"), "{}", told.message);
    assert!(told.hint.unwrap().contains("bgagent login"));
}
