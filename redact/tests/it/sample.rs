//! Tokens as services make them: patterns, since a whole token in a source file would be found by every scanner.

/// A kind of finding and what its tokens look like. `(` and `)` stand around what must not survive.
pub const SHAPES: &[(&str, &str)] = &[
    ("a GitHub token", "(ghp_[A-Za-z0-9]{36})"),
    ("a GitHub token", "(gho_[A-Za-z0-9]{36})"),
    ("a GitHub token", "(ghu_[A-Za-z0-9]{36})"),
    ("a GitHub token", "(ghs_[A-Za-z0-9]{36})"),
    ("a GitHub token", "(ghr_[A-Za-z0-9]{36})"),
    ("a GitHub token", "(github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59})"),
    ("a GitLab token", "(glpat-[A-Za-z0-9_-]{20})"),
    ("a GitLab token", "(glrt-[A-Za-z0-9_-]{20})"),
    ("a Slack token", "(xoxb-[0-9]{12}-[0-9]{12}-[A-Za-z0-9]{24})"),
    ("a Slack token", "(xoxp-[0-9]{12}-[0-9]{12}-[0-9]{12}-[a-f0-9]{32})"),
    ("a Slack token", "(xapp-1-[A-Z0-9]{11}-[0-9]{13}-[a-f0-9]{64})"),
    ("a Slack webhook", "https://(hooks\\.slack\\.com/services/T[A-Z0-9]{8}/B[A-Z0-9]{10}/[A-Za-z0-9]{24})"),
    ("an AWS access key", "(AKIA[A-Z2-7]{16})"),
    ("an AWS access key", "(ASIA[A-Z2-7]{16})"),
    ("an AWS secret key", "aws_secret_access_key = ([A-Za-z0-9/+]{40})"),
    ("an AWS secret key", "\"SecretAccessKey\": \"([A-Za-z0-9/+]{40})\""),
    ("an Anthropic key", "(sk-ant-api03-[A-Za-z0-9_-]{93}AA)"),
    ("an OpenAI key", "(sk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20})"),
    ("an OpenAI key", "(sk-proj-[A-Za-z0-9_-]{74}T3BlbkFJ[A-Za-z0-9_-]{74})"),
    ("an OpenRouter key", "(sk-or-v1-[a-f0-9]{64})"),
    ("a Groq key", "(gsk_[A-Za-z0-9]{52})"),
    ("a Google key", "(AIza[A-Za-z0-9_-]{35})"),
    ("a Google token", "(ya29\\.[A-Za-z0-9_-]{100})"),
    ("an npm token", "(npm_[A-Za-z0-9]{36})"),
    (
        "an npm token",
        "//registry\\.example\\.com/:_authToken=([a-f][0-9][a-f0-9]{6}-[a-f0-9]{4}-4[a-f0-9]{3}-[a-f0-9]{12})",
    ),
    ("a PyPI token", "(pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{100})"),
    ("a Docker token", "(dckr_pat_[A-Za-z0-9_-]{27})"),
    ("a Hugging Face token", "(hf_[A-Za-z0-9]{34})"),
    ("a SendGrid key", "(SG\\.[A-Za-z0-9_-]{22}\\.[A-Za-z0-9_-]{43})"),
    ("a Stripe key", "(sk_live_[A-Za-z0-9]{24})"),
    ("a Stripe key", "(rk_live_[A-Za-z0-9]{24})"),
    ("a DigitalOcean token", "(dop_v1_[a-f0-9]{64})"),
    ("a Vault token", "(hvs\\.[A-Za-z0-9_-]{90})"),
    ("an age key", "(AGE-SECRET-KEY-1[A-Z0-9]{58})"),
    ("an Azure key", "AccountName=x;(AccountKey=[A-Za-z0-9+/]{86}==)"),
    ("a JSON web token", "(eyJ[A-Za-z0-9_-]{33}\\.eyJ[A-Za-z0-9_-]{50,200}\\.[A-Za-z0-9_-]{43})"),
    (
        "a private key",
        "(-----BEGIN RSA PRIVATE KEY-----\n([A-Za-z0-9+/]{64}\n){3,24}[A-Za-z0-9+/]{10,60}==\n-----END RSA PRIVATE KEY-----)",
    ),
    (
        "a private key",
        "(-----BEGIN PRIVATE KEY-----\\\\n([A-Za-z0-9+/]{64}\\\\n){1,24}-----END PRIVATE KEY-----)",
    ),
    (
        "a private key",
        "   1\t(-----BEGIN OPENSSH PRIVATE KEY-----\n(   [1-9]\t[A-Za-z0-9+/]{70}\n){2,9}  10\t-----END OPENSSH PRIVATE KEY-----)",
    ),
    (
        "a private key",
        "(-----BEGIN RSA PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: AES-128-CBC,[0-9A-F]{32}\r\n\r\n([A-Za-z0-9+/]{64}\r\n){9}-----END RSA PRIVATE KEY-----)",
    ),
    ("a credential of an HTTP header", "Authorization: Bearer ([a-z][A-Z][A-Za-z0-9_~+/-]{22,58})"),
    ("a credential of an HTTP header", "Authorization: Basic (dXNlcjpw[A-Za-z0-9]{12}==)"),
    ("a credential of an HTTP header", "Authorization: token ([a-f][0-9][a-f0-9]{38})"),
    ("a credential of an HTTP header", "x-api-key: ([A-Za-z0-9]{32})"),
    ("a password in a URL", "https://me:([a-z0-9]{12})@git\\.example\\.org/x\\.git"),
    ("a password in a URL", "https://([a-zA-Z0-9]{40})@git\\.example\\.org/x\\.git"),
    ("a bgagent token", "(bgak_[0-9a-f]{64})"),
    ("a bgagent token", "(bgb_[0-9A-HJKMNP-TV-Z]{26}_[1-9]_[0-9a-f]{64})"),
    ("a bgagent token", "(bgs_[0-9A-HJKMNP-TV-Z]{26}_[1-9]_[0-9a-f]{16}_[0-9a-f]{64})"),
];

/// The pattern without the marks, and with what stands before and after the secret.
pub fn parts(pattern: &str) -> (String, String, String) {
    let open = pattern.find('(').unwrap();
    let close = pattern.rfind(')').unwrap();
    (pattern[..open].to_owned(), pattern[open + 1..close].to_owned(), pattern[close + 1..].to_owned())
}
