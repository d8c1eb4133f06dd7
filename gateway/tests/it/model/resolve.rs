//! Model strings and where they lead.

use domain::FailureCode;
use gateway::model::{Kind, ModelConfig, ModelRouter, ProviderConfig};

fn router(default: Option<&str>, providers: &[(&str, &[&str])]) -> ModelRouter {
    let provider = |models: &[&str]| {
        let mut provider = ProviderConfig::new(Kind::Openai);
        provider.models = models.iter().map(|m| (*m).to_owned()).collect();
        provider
    };
    let providers = providers.iter().map(|(name, models)| ((*name).to_owned(), provider(models))).collect();
    ModelRouter::new(ModelConfig { default: default.map(str::to_owned), providers, prices: vec![] }).unwrap()
}

fn check(router: &ModelRouter, text: &str, want: Result<&str, FailureCode>) {
    let got = router.resolve(text);
    let got = got.as_ref().map(|r| r.name()).map_err(|f| f.code);
    assert_eq!(got, want.map(str::to_owned), "{text:?}");
}

#[test]
fn strings_resolve_by_provider_then_list_then_default() {
    use FailureCode::{ModelNotConfigured, ModelUnknown};
    let two = router(Some("a/x"), &[("a", &[]), ("b", &["y", "z/w"]), ("c", &["y"])]);
    check(&two, "", Ok("a/x"));
    check(&two, "b/y", Ok("b/y"));
    check(&two, "b/q", Err(ModelUnknown));
    check(&two, "z/w", Ok("b/z/w"));
    check(&two, "y", Err(ModelUnknown));
    check(&two, "c", Ok("c/y"));
    check(&two, "anything", Ok("a/anything"));
    check(&two, "a/", Err(ModelUnknown));

    let no_default = router(None, &[("a", &[]), ("b", &["y"])]);
    check(&no_default, "", Err(ModelNotConfigured));
    check(&no_default, "y", Ok("b/y"));
    check(&no_default, "q", Err(ModelUnknown));

    let one = router(None, &[("a", &[])]);
    check(&one, "vendor/q", Ok("a/vendor/q"));
    check(&one, "", Err(ModelNotConfigured));
    check(&router(Some(""), &[("a", &["x"])]), "", Ok("a/x"));
    for default in [None, Some(""), Some("a/x")] {
        check(&router(default, &[]), "q", Err(ModelNotConfigured));
    }
}

#[test]
fn a_default_that_leads_nowhere_is_told_at_start() {
    let mut provider = ProviderConfig::new(Kind::Openai);
    provider.models = vec!["x".into()];
    let config = ModelConfig {
        default: Some("a/y".into()),
        providers: [("a".into(), provider)].into(),
        prices: vec![],
    };
    assert_eq!(ModelRouter::new(config).unwrap_err().code, FailureCode::ModelUnknown);
}

#[test]
fn a_wrong_configuration_is_told_at_start() {
    let mut secret = ProviderConfig::new(Kind::Openai);
    secret.base_url = Some("https://user:hunter2@models.example/v1".into());
    let mut nowhere = ProviderConfig::new(Kind::Anthropic);
    nowhere.base_url = Some("models.example".into());
    let mut absent = ProviderConfig::new(Kind::Script);
    absent.path = Some("/no/such/file.json".into());
    for (provider, says) in [
        (secret, "api_key"),
        (nowhere, "base_url"),
        (absent, "/no/such/file.json"),
        (ProviderConfig::new(Kind::Script), "path is missing"),
    ] {
        let config = ModelConfig { providers: [("p".into(), provider)].into(), ..ModelConfig::default() };
        let failure = ModelRouter::new(config).unwrap_err();
        assert_eq!(failure.code, FailureCode::ModelNotConfigured);
        assert!(failure.detail.contains(says) && !failure.detail.contains("hunter2"), "{failure}");
    }
}
