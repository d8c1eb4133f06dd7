//! From a task's model string to a provider, its name for the model, and a price.

use std::fmt;
use std::sync::Arc;

use domain::money::{Price, price_of};
use domain::{Failure, FailureCode};

use super::ModelRouter;
use super::provider::Provider;
use super::script::transcript::Transcript;

/// Where a model string leads.
#[derive(Clone)]
pub struct Resolved {
    pub(super) provider: Arc<Provider>,
    /// The provider's name for the model.
    pub model: String,
    /// Its row of the price table.
    pub price: Option<Price>,
}

impl Resolved {
    /// `provider/model`: the name that is recorded and shown.
    pub fn name(&self) -> String {
        format!("{}/{}", self.provider.name, self.model)
    }

    /// The transcript it plays, if it does and people speak in it.
    pub(crate) fn nudges(&self) -> Option<Arc<Transcript>> {
        self.provider.transcript(&self.model).filter(|transcript| transcript.has_nudges())
    }

    /// What the configuration calls its provider.
    pub fn provider(&self) -> &str {
        &self.provider.name
    }

    /// How its provider is configured.
    pub(crate) fn config(&self) -> &super::ProviderConfig {
        &self.provider.config
    }
}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl ModelRouter {
    /// Resolves `provider/model`, a provider alone, or a model alone: a provider that lists it, else the default's
    /// provider, else the only one. An empty string is the configured default.
    pub fn resolve(&self, text: &str) -> Result<Resolved, Failure> {
        if self.providers.is_empty() {
            let detail = "no model provider is configured: set ANTHROPIC_API_KEY, OPENAI_API_KEY, or a provider in the configuration file";
            return Err(Failure::new(FailureCode::ModelNotConfigured, detail));
        }
        let text = match (text.trim(), &self.default) {
            ("", Some(default)) => default.trim(),
            ("", None) => return self.without_a_name(),
            (text, _) => text,
        };
        if let Some((name, model)) = text.split_once('/')
            && let Some(provider) = self.providers.get(name)
        {
            return self.at(provider, model);
        }
        let listing: Vec<_> =
            self.providers.values().filter(|p| p.config.models.iter().any(|m| m == text)).collect();
        let preferred = self.preferred();
        match (listing.as_slice(), preferred) {
            ([only], _) => return self.at(only, text),
            ([_, ..], Some(preferred)) if listing.iter().any(|p| p.name == preferred.name) => {
                return self.at(preferred, text);
            }
            ([_, ..], _) => {
                let names: Vec<_> = listing.iter().map(|p| format!("{}/{text}", p.name)).collect();
                let detail = format!("several providers have {text}: say one of {}", names.join(", "));
                return Err(Failure::new(FailureCode::ModelUnknown, detail).resource(text));
            }
            ([], _) => {}
        }
        if let Some(provider) = self.providers.get(text)
            && let Some(model) = provider.default_model()
        {
            return self.at(provider, model);
        }
        match preferred {
            Some(provider) => self.at(provider, text),
            None => {
                let names: Vec<_> = self.providers.keys().map(|n| format!("{n}/{text}")).collect();
                let detail = format!(
                    "no provider lists the model {text}: say which one, as in {}",
                    names.join(" or ")
                );
                Err(Failure::new(FailureCode::ModelUnknown, detail).resource(text))
            }
        }
    }

    fn without_a_name(&self) -> Result<Resolved, Failure> {
        let mut providers = self.providers.values();
        if let (Some(only), None) = (providers.next(), providers.next())
            && let Some(model) = only.default_model()
        {
            return self.at(only, model);
        }
        let detail = "the task names no model and no default is configured: give one as PROVIDER/NAME (`--model openai/NAME`), or set model.default";
        Err(Failure::new(FailureCode::ModelNotConfigured, detail))
    }

    /// The provider for models that nobody lists.
    fn preferred(&self) -> Option<&Arc<Provider>> {
        let of_default = self.default.as_deref().map(|d| d.split('/').next().unwrap_or(d));
        let mut providers = self.providers.values();
        match (of_default.and_then(|name| self.providers.get(name)), providers.next(), providers.next()) {
            (Some(provider), _, _) => Some(provider),
            (None, Some(only), None) => Some(only),
            (None, _, _) => None,
        }
    }

    fn at(&self, provider: &Arc<Provider>, model: &str) -> Result<Resolved, Failure> {
        let name = &provider.name;
        if model.is_empty() {
            let detail = format!("{name}/ names no model");
            return Err(Failure::new(FailureCode::ModelUnknown, detail).resource(name.clone()));
        }
        if !provider.allows(model) {
            let detail = format!("provider {name} offers {}, not {model}", provider.config.models.join(", "));
            return Err(Failure::new(FailureCode::ModelUnknown, detail).resource(format!("{name}/{model}")));
        }
        provider.knows(model)?;
        let price =
            price_of(&self.prices, &format!("{name}/{model}")).or_else(|| price_of(&self.prices, model));
        Ok(Resolved { provider: Arc::clone(provider), model: model.to_owned(), price: price.cloned() })
    }
}
