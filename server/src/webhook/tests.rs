use super::*;

const NOW: i64 = 1_700_000_000;
const BODY: &[u8] = b"{\"repo\":\"o/r\"}";

fn key() -> WebhookKey {
    WebhookKey::new(SecretString::from("server key".to_owned()))
}

fn id() -> WebhookId {
    "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()
}

/// The headers of a signed delivery.
fn signed(secret: &Secret, delivery: &str, at: i64, body: &[u8]) -> Vec<(&'static str, String)> {
    secret.sign(delivery, at, body)
}

fn present<'a>(headers: &'a [(&'static str, String)]) -> Presented<'a> {
    let get = |name| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str());
    Presented {
        delivery: get("webhook-id"),
        time: get("webhook-timestamp"),
        strict: get("webhook-signature"),
        plain: get("x-webhook-signature"),
    }
}

#[test]
fn a_secret_is_of_one_webhook_one_number_and_one_server() {
    let other = "01ARZ3NDEKTSV4RRFFQ69G5FAW".parse().unwrap();
    let elsewhere = WebhookKey::new(SecretString::from("another key".to_owned()));
    for kind in [Signature::Strict, Signature::Plain] {
        let text = |secret: Secret| secret.written().expose_secret().to_owned();
        let all = [
            text(key().secret(id(), 1, kind)),
            text(key().secret(id(), 2, kind)),
            text(key().secret(other, 1, kind)),
            text(elsewhere.secret(id(), 1, kind)),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(!all[..n].contains(one));
            assert_eq!(Secret::read(one).unwrap().signature(), kind);
        }
        assert_eq!(all[0], text(key().secret(id(), 1, kind)), "it is the same at every start");
    }
    for bad in ["", " ", "whsec_", "whsec_xx", "whsec_AAAA", "abc", &"g".repeat(64), &"a".repeat(62)] {
        assert!(Secret::read(bad).is_none(), "{bad:?}");
    }
}

#[test]
fn it_is_standard_webhooks_to_the_letter() {
    // The example of the specification's libraries.
    let secret = Secret {
        written: SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()),
        signature: Signature::Strict,
    };
    let headers = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
    assert_eq!(headers[2], ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=".into()));
}

#[test]
fn it_is_abcas_plain_signature_to_the_letter() {
    let secret = key().secret(id(), 1, Signature::Plain);
    let text = secret.written().expose_secret();
    let want = hex::encode(mac(text.as_bytes(), &[BODY]));
    assert_eq!(signed(&secret, "-", 0, BODY), [("x-webhook-signature", format!("sha256={want}"))]);
    for given in [format!("sha256={want}"), want.clone(), format!("sha256={}", want.to_uppercase())] {
        let presented = Presented { plain: Some(&given), ..Presented::default() };
        assert_eq!(check(&presented, BODY, std::slice::from_ref(&secret), NOW), Ok(Signed::Plain), "{given}");
    }
}

#[test]
fn a_strict_delivery_is_good_within_its_window_from_both_sides() {
    let secret = key().secret(id(), 1, Signature::Strict);
    for (at, want) in [
        (NOW, Ok(())),
        (NOW - 300, Ok(())),
        (NOW - 301, Err(Unsigned::Stale(301))),
        (NOW + 300, Ok(())),
        (NOW + 301, Err(Unsigned::Future(301))),
        (0, Err(Unsigned::Stale(NOW))),
        (i64::MAX, Err(Unsigned::Future(i64::MAX - NOW))),
    ] {
        let headers = signed(&secret, "d1", at, BODY);
        let got = check(&present(&headers), BODY, std::slice::from_ref(&secret), NOW);
        assert_eq!(got, want.map(|()| Signed::Strict { delivery: "d1".into(), at }), "{at}");
    }
}

#[test]
fn nothing_of_a_strict_delivery_can_be_changed() {
    let secret = key().secret(id(), 1, Signature::Strict);
    let headers = signed(&secret, "d1", NOW, BODY);
    let good = present(&headers);
    let secrets = [secret.clone()];
    let later = (NOW + 1).to_string();
    let other = signed(&key().secret(id(), 2, Signature::Strict), "d1", NOW, BODY);
    let blank = Secret { written: SecretString::from("whsec_".to_owned()), signature: Signature::Strict };
    let unkeyed = signed(&blank, "d1", NOW, BODY);
    let v2 = good.strict.unwrap().replace("v1,", "v2,");
    for (presented, body, why) in [
        (Presented { delivery: Some("d2"), ..good }, BODY, "another delivery"),
        (Presented { time: Some(&later), ..good }, BODY, "another time"),
        (good, b"{\"repo\":\"o/x\"}".as_slice(), "another body"),
        (good, b"".as_slice(), "no body"),
        (present(&other), BODY, "another secret"),
        (present(&unkeyed), BODY, "a blank secret"),
        (Presented { strict: Some(&v2), ..good }, BODY, "another version"),
        (Presented { strict: Some("v1,"), ..good }, BODY, "a blank signature"),
        (Presented { strict: Some(""), ..good }, BODY, "none"),
        (Presented { strict: Some("v1,****"), ..good }, BODY, "no base64"),
    ] {
        assert_eq!(check(&presented, body, &secrets, NOW), Err(Unsigned::Mismatch), "{why}");
    }
    // The end of a delivery's name is not its time.
    let moved = signed(&secret, "d1", NOW, format!("{NOW}.x").as_bytes());
    let id = format!("d1.{NOW}");
    let presented = Presented { delivery: Some(&id), ..present(&moved) };
    assert!(matches!(check(&presented, b"x", &secrets, NOW), Err(Unsigned::Malformed(_))));
    for (presented, why) in [
        (Presented { delivery: Some(""), ..good }, "no name"),
        (Presented { delivery: Some(&"x".repeat(65)), ..good }, "a long name"),
        (Presented { time: Some("1e9"), ..good }, "no digits"),
        (Presented { time: Some("-1"), ..good }, "a sign"),
        (Presented { time: Some("+1700000000"), ..good }, "a plus"),
        (Presented { time: Some(&"9".repeat(30)), ..good }, "too large"),
    ] {
        assert!(matches!(check(&presented, BODY, &secrets, NOW), Err(Unsigned::Malformed(_))), "{why}");
    }
}

#[test]
fn any_of_several_signatures_and_any_of_the_good_secrets_will_do() {
    let [one, two] = [1, 2].map(|n| key().secret(id(), n, Signature::Strict));
    let headers = signed(&one, "d1", NOW, BODY);
    assert!(check(&present(&headers), BODY, &[two.clone(), one.clone()], NOW).is_ok(), "while both are good");
    assert!(check(&present(&headers), BODY, &[two], NOW).is_err());
    let several = format!("v1a,xx v1,AAAA {} v1,BBBB", present(&headers).strict.unwrap());
    let presented = Presented { strict: Some(&several), ..present(&headers) };
    assert!(check(&presented, BODY, std::slice::from_ref(&one), NOW).is_ok());
    let many = format!("{}{}", "v1,AAAA ".repeat(SIGNATURES_MAX), present(&headers).strict.unwrap());
    let presented = Presented { strict: Some(&many), ..present(&headers) };
    assert!(check(&presented, BODY, &[one], NOW).is_err(), "only the first few are looked at");
}

#[test]
fn one_kind_does_not_pass_for_the_other() {
    let strict = key().secret(id(), 1, Signature::Strict);
    let plain = key().secret(id(), 1, Signature::Plain);
    let (s, p) = (signed(&strict, "d1", NOW, BODY), signed(&plain, "", 0, BODY));
    assert_eq!(check(&present(&p), BODY, std::slice::from_ref(&strict), NOW), Err(Unsigned::Mismatch));
    assert_eq!(check(&present(&s), BODY, std::slice::from_ref(&plain), NOW), Err(Unsigned::Mismatch));
    for secret in [strict, plain] {
        assert_eq!(check(&Presented::default(), BODY, &[secret], NOW), Err(Unsigned::Missing));
    }
    assert_eq!(check(&present(&s), BODY, &[], NOW), Err(Unsigned::Mismatch), "no secret is good");
}

#[test]
fn a_plain_signature_with_a_blank_or_wrong_key_is_refused() {
    let secret = [key().secret(id(), 1, Signature::Plain)];
    let unkeyed = format!("sha256={}", hex::encode(mac(b"", &[BODY])));
    let wrong = format!("sha256={}", hex::encode(mac(b"wrong", &[BODY])));
    for given in [unkeyed.as_str(), wrong.as_str(), "", "sha256=", "sha256=zz", "sha1=00"] {
        let presented = Presented { plain: Some(given), ..Presented::default() };
        assert_eq!(check(&presented, BODY, &secret, NOW), Err(Unsigned::Mismatch), "{given}");
    }
}
