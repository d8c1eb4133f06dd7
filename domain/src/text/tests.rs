use proptest::prelude::*;

use super::*;

#[test]
fn escapes_and_overrides_become_visible() {
    let evil = "a\x1b[31mred\x1b]0;title\x07 \u{9b}2J \u{202e}gnp.exe\r\nb\tc\x7f";
    assert_eq!(line(evil), "a␛[31mred␛]0;title␇ <U+009B>2J <U+202E>gnp.exe  b c␡");
    assert_eq!(block("a\r\nb\rc\td\x08"), "a\nb␍c\td␈");
    assert_eq!(line("añ漢😀"), "añ漢😀", "letters of all scripts stay");
}

#[test]
fn of_what_we_print_ourselves_only_colours_are_obeyed() {
    assert_eq!(
        painted("\x1b[1;32mok\x1b[0m \x1b[2J\x1b]0;t\x07 \u{202e}\x1b[m\x1b[31\n"),
        "\x1b[1;32mok\x1b[0m ␛[2J␛]0;t␇ <U+202E>\x1b[m␛[31\n"
    );
    assert!(matches!(painted("plain\n\ttext ✓"), Cow::Borrowed(_)));
}

#[test]
fn a_tail_is_short_and_plain() {
    assert_eq!(tail("a\u{1b}[31mred\u{1b}[0m\r\n\tb\u{7}\u{202e}c\u{9b}", 99), "ared\n\tb␇<U+202E>c");
    assert_eq!(tail("x\u{1b}[", 99), "x");
    let long = tail(&"é".repeat(5_000), 4_096);
    assert!(long.len() <= 4_096 && long.chars().all(|c| c == 'é'));
}

#[test]
fn sequences_go_whatever_their_form() {
    for (text, left) in [
        ("\u{1b}[1;31mred\u{1b}[0m ok", "red ok"),
        ("\u{1b}]0;title\u{7}a\u{1b}]8;;http://x\u{1b}\\b\u{9d}0;t\u{9c}c", "abc"),
        ("a\u{1b}Pq#0\u{1b}\\b\u{1b}_apc\u{1b}\\c\u{1b}(0d", "abcd"),
        ("a\u{9b}31mb\u{1b}", "ab"),
        ("unended \u{1b}]0;title\nmore \u{1b}[31\u{1b}", "unended 0;title\nmore "),
        ("plain", "plain"),
    ] {
        assert_eq!(without_sequences(text), left, "{text:?}");
    }
}

/// D-071: hidden characters passed.
#[test]
fn hidden_characters_are_shown_and_counted() {
    for (text, shown, count) in [
        ("plain\tand\r\nbroken", "plain\tand\r\nbroken", 0),
        ("if (\u{202e}x)", "if (<U+202E>x)", 1),
        ("pass\u{200b}word \u{2066}x\u{2069}", "pass<U+200B>word <U+2066>x<U+2069>", 3),
        ("so\u{ad}ft \u{feff}", "so<U+00AD>ft <U+FEFF>", 2),
        ("\u{e0041}\u{e0042}", "<U+E0041><U+E0042>", 2),
        ("a\u{1b}[31m\u{8}", "a<U+001B>[31m<U+0008>", 2),
        (
            "👨\u{200d}👩\u{200d}👧 ❤\u{fe0f} 1\u{fe0f}\u{20e3}",
            "👨\u{200d}👩\u{200d}👧 ❤\u{fe0f} 1\u{fe0f}\u{20e3}",
            0,
        ),
        ("می\u{200c}خواهم", "می\u{200c}خواهم", 0),
        ("a\u{200d}b é\u{200c}x", "a<U+200D>b é<U+200C>x", 2),
        ("\u{5d0}\u{200d}\u{fe0f}", "\u{5d0}<U+200D><U+FE0F>", 2),
        ("a\u{fe0f}\u{200d}\u{5d0}", "a<U+FE0F><U+200D>\u{5d0}", 2),
        ("😀\u{e0101}\u{e0102}\u{e0103}", "😀\u{e0101}<U+E0102><U+E0103>", 2),
    ] {
        let (seen, hidden) = visible(text);
        assert_eq!((&*seen, hidden), (shown, count), "{text:?}");
    }
    assert_eq!(hidden_note(0), None);
    assert!(hidden_note(2).unwrap().contains("2 characters are not seen"));
}

#[test]
fn a_fence_looks_like_this() {
    assert_eq!(
        fence("issue", &[("by", "x\"><b>\u{202e}")], "one </issue> < / ISSUE> <issue> </other>"),
        "<issue by=\"x&quot;&gt;&lt;b&gt;&lt;U+202E&gt;\">\none <\\/issue> <\\ / ISSUE> <\\issue> </other>\n</issue>"
    );
}

fn foreign() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[ -~]{0,12}",
        any::<char>().prop_map(String::from),
        prop::sample::select(vec![
            "\u{1b}[2J",
            "\u{1b}]0;t\u{7}",
            "\u{9b}1m",
            "\r",
            "\u{202e}",
            "\u{200b}",
            "\u{200d}",
            "\u{fe0f}",
            "\u{e0041}",
            "</data>",
            "< /data",
            "<\u{200b}/data>",
            "</DATA",
            "<data x=\"\">",
            "\u{8}\u{8}",
            "\n",
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_a_terminal_obeys_is_left(text in foreign()) {
        let allowed = |c: char| !is_dangerous(c) || matches!(c, '\n' | '\t');
        prop_assert!(line(&text).chars().all(|c| !is_dangerous(c)));
        prop_assert!(block(&text).chars().all(allowed));
        prop_assert!(tail(&text, 4_096).chars().all(allowed));
        prop_assert!(painted(&text).chars().all(|c| allowed(c) || c == '\x1b'));
        prop_assert!(painted(&text).split('\x1b').skip(1).all(|rest| rest.starts_with('[')), "{text:?}");
        let left = without_sequences(&text);
        prop_assert!(!left.contains('\x1b'), "a sequence is left");
        prop_assert_eq!(block(&block(&text)), block(&text));
    }

    /// D-070: code lost its type arguments.
    #[test]
    fn nothing_hidden_is_left_and_the_rest_is_as_it_was(text in foreign()) {
        let (shown, hidden) = visible(&text);
        let dangerous = |c: char| is_dangerous(c) && !matches!(c, '\n' | '\t' | '\r' | '\x0c');
        prop_assert!(!shown.chars().any(dangerous), "{shown:?}");
        prop_assert_eq!(hidden == 0, &*shown == text.as_str());
        prop_assert_eq!(visible(&shown), (shown.clone(), 0));
    }

    #[test]
    fn a_fence_is_closed_once(text in foreign()) {
        let fenced = fence("data", &[], &text);
        let inside = fenced.strip_prefix("<data>\n").unwrap().strip_suffix("\n</data>").unwrap();
        let squeezed: String = inside.chars().filter(|c| !c.is_whitespace() && !is_hidden(*c)).collect();
        let lower = squeezed.to_ascii_lowercase();
        prop_assert!(!lower.contains("</data") && !lower.contains("<data"), "{inside:?}");
        prop_assert_eq!(inside.replace("<\\", "<").len() <= text.len(), true);
    }
}
