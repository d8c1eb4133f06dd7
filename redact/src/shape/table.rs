//! The shapes.

use super::{Before, Rule, Set, Shape};

const fn any(kind: &'static str, begins: &'static str, set: Set, least: usize) -> Shape {
    Shape { kind, begins, before: Before::Any, rule: Rule::Run(set, least) }
}

const fn edge(kind: &'static str, begins: &'static str, set: Set, least: usize) -> Shape {
    Shape { kind, begins, before: Before::Edge, rule: Rule::Run(set, least) }
}

const fn rule(kind: &'static str, begins: &'static str, rule: Rule) -> Shape {
    Shape { kind, begins, before: Before::Any, rule }
}

const fn value(kind: &'static str, begins: &'static str, set: Set, least: usize) -> Shape {
    rule(kind, begins, Rule::Value(BETWEEN, set, least))
}

/// What stands between a name and its value in headers, JSON, shell, TOML and INI.
const BETWEEN: &[u8] = b" \t:='\"\\>";

const GITHUB: &str = "a GitHub token";
const GITLAB: &str = "a GitLab token";
const SLACK: &str = "a Slack token";
const AWS_ID: &str = "an AWS access key";
const AWS: &str = "an AWS secret key";
const STRIPE: &str = "a Stripe key";
const OPENAI: &str = "an OpenAI key";
const HEADER: &str = "a credential of an HTTP header";
const NPM: &str = "an npm token";
const OURS: &str = "a bgagent token";

/// Every shape.
pub const ALL: &[Shape] = &[
    any(OURS, "bgak_", Set::Hex, 32),
    any(OURS, "bgb_", Set::Url, 40),
    any(OURS, "bgs_", Set::Url, 40),
    any(GITHUB, "ghp_", Set::Word, 30),
    any(GITHUB, "gho_", Set::Word, 30),
    any(GITHUB, "ghu_", Set::Word, 30),
    any(GITHUB, "ghs_", Set::Dotted, 30),
    any(GITHUB, "ghr_", Set::Word, 30),
    any(GITHUB, "github_pat_", Set::Word, 40),
    any(GITLAB, "glpat-", Set::Dotted, 20),
    any(GITLAB, "gldt-", Set::Url, 20),
    any(GITLAB, "glrt-", Set::Dotted, 20),
    any(GITLAB, "glcbt-", Set::Url, 20),
    any(GITLAB, "glptt-", Set::Url, 20),
    any(GITLAB, "glft-", Set::Url, 20),
    any(GITLAB, "glsoat-", Set::Url, 20),
    any(SLACK, "xoxa-", Set::Url, 20),
    any(SLACK, "xoxb-", Set::Url, 20),
    any(SLACK, "xoxe-", Set::Url, 20),
    any(SLACK, "xoxe.xox", Set::Url, 20),
    any(SLACK, "xoxo-", Set::Url, 20),
    any(SLACK, "xoxp-", Set::Url, 20),
    any(SLACK, "xoxr-", Set::Url, 20),
    any(SLACK, "xoxs-", Set::Url, 20),
    any(SLACK, "xapp-", Set::Url, 20),
    any("a Slack webhook", "hooks.slack.com/services/", Set::Path, 30),
    any("a Slack webhook", "hooks.slack.com/workflows/", Set::Path, 30),
    any("a Slack webhook", "hooks.slack.com/triggers/", Set::Path, 30),
    any("a Discord webhook", "discord.com/api/webhooks/", Set::Path, 18),
    Shape { kind: AWS_ID, begins: "AKIA", before: Before::Edge, rule: Rule::Exactly(Set::Upper, 16) },
    Shape { kind: AWS_ID, begins: "ASIA", before: Before::Edge, rule: Rule::Exactly(Set::Upper, 16) },
    Shape { kind: AWS_ID, begins: "ABIA", before: Before::Edge, rule: Rule::Exactly(Set::Upper, 16) },
    value(AWS, "aws_secret_access_key", Set::Base64, 40),
    value(AWS, "AWS_SECRET_ACCESS_KEY", Set::Base64, 40),
    value(AWS, "SecretAccessKey", Set::Base64, 40),
    value(AWS, "secretAccessKey", Set::Base64, 40),
    value(AWS, "aws_session_token", Set::Base64, 40),
    value(AWS, "AWS_SESSION_TOKEN", Set::Base64, 40),
    value(AWS, "SessionToken", Set::Base64, 40),
    value(AWS, "sessionToken", Set::Base64, 100),
    any("an Anthropic key", "sk-ant-", Set::Url, 20),
    any(OPENAI, "sk-proj-", Set::Url, 20),
    any(OPENAI, "sk-svcacct-", Set::Url, 20),
    any(OPENAI, "sk-admin-", Set::Url, 20),
    edge(OPENAI, "sk-", Set::Alnum, 32),
    any("an OpenRouter key", "sk-or-v1-", Set::Hex, 32),
    edge("a Groq key", "gsk_", Set::Alnum, 40),
    edge("an xAI key", "xai-", Set::Alnum, 60),
    edge("a Perplexity key", "pplx-", Set::Alnum, 40),
    edge("a Replicate token", "r8_", Set::Alnum, 36),
    any("an NVIDIA key", "nvapi-", Set::Url, 60),
    edge("a Hugging Face token", "hf_", Set::Alnum, 30),
    any("a Google key", "AIza", Set::Url, 35),
    any("a Google token", "ya29.", Set::Dotted, 30),
    any("a Google secret", "GOCSPX-", Set::Url, 24),
    any(NPM, "npm_", Set::Alnum, 36),
    value(NPM, "_authToken=", Set::Token, 16),
    value(NPM, "_password=", Set::Base64, 12),
    any("a PyPI token", "pypi-AgE", Set::Url, 50),
    any("a RubyGems key", "rubygems_", Set::Hex, 40),
    any("a Docker token", "dckr_pat_", Set::Url, 20),
    any("a Docker token", "dckr_oat_", Set::Url, 20),
    Shape { kind: "a SendGrid key", begins: "SG.", before: Before::Edge, rule: Rule::Dotted(&[20, 30]) },
    any(STRIPE, "sk_live_", Set::Alnum, 20),
    any(STRIPE, "sk_test_", Set::Alnum, 20),
    any(STRIPE, "rk_live_", Set::Alnum, 20),
    any(STRIPE, "rk_test_", Set::Alnum, 20),
    any("a webhook's secret", "whsec_", Set::Base64, 24),
    any("a Shopify token", "shpat_", Set::Hex, 32),
    any("a Shopify token", "shpss_", Set::Hex, 32),
    any("a Square token", "sq0atp-", Set::Url, 22),
    any("a Square token", "sq0csp-", Set::Url, 40),
    any("a DigitalOcean token", "dop_v1_", Set::Hex, 60),
    any("a DigitalOcean token", "doo_v1_", Set::Hex, 60),
    any("a Linear key", "lin_api_", Set::Alnum, 32),
    any("a Figma token", "figd_", Set::Url, 36),
    any("a Postman key", "PMAK-", Set::Url, 50),
    any("a Grafana token", "glsa_", Set::Word, 40),
    any("a Grafana token", "glc_eyJ", Set::Base64, 40),
    any("a Vault token", "hvs.", Set::Url, 24),
    any("a Vault token", "hvb.", Set::Url, 24),
    any("a Tailscale key", "tskey-", Set::Url, 20),
    any("an age key", "AGE-SECRET-KEY-1", Set::Upper, 50),
    any("an Azure key", "AccountKey=", Set::Base64, 80),
    any("an Azure key", "SharedAccessKey=", Set::Base64, 40),
    Shape { kind: "a JSON web token", begins: "eyJ", before: Before::Edge, rule: Rule::Jwt },
    rule("a private key", "-----BEGIN ", Rule::Pem),
    Shape { kind: "a password in a URL", begins: "://", before: Before::Letter, rule: Rule::Url },
    rule(HEADER, "Bearer ", Rule::Value(b" ", Set::Token, 16)),
    rule(HEADER, "bearer ", Rule::Value(b" ", Set::Token, 16)),
    rule(HEADER, "Basic ", Rule::Basic),
    rule(HEADER, "basic ", Rule::Basic),
    rule(HEADER, "uthorization: token ", Rule::Value(b" ", Set::Token, 16)),
    value(HEADER, "X-Api-Key:", Set::Token, 16),
    value(HEADER, "x-api-key:", Set::Token, 16),
    value(HEADER, "x-api-key\":", Set::Token, 16),
    value(HEADER, "X-API-Key:", Set::Token, 16),
    value(HEADER, "X-API-KEY:", Set::Token, 16),
    value(HEADER, "PRIVATE-TOKEN:", Set::Token, 16),
    value(HEADER, "Private-Token:", Set::Token, 16),
    value(HEADER, "private-token:", Set::Token, 16),
];
