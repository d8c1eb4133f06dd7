use super::*;
use crate::push::settings::Globs;

fn change(path: &str, mode: u32) -> Change {
    let before = vec![Side { path: path.into(), mode: ABSENT, object: "0".into() }];
    Change { path: path.into(), before, mode, object: "o".into() }
}

fn told(change: &Change, target: &str) -> Vec<String> {
    let links = HashMap::from([("o".to_owned(), target.to_owned())]);
    objections(change, &HashMap::new(), &links, &Settings::default())
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn protected_paths_are_known_however_they_are_spelled() {
    let file = 0o100_644;
    for path in [
        ".github/workflows/ci.yml",
        ".github/workflows/deep/er/ci.yml",
        ".GitHub/Workflows/ci.yml",
        ".g\u{200c}ithub/workflows/ci.yml",
        ".github./workflows /ci.yml",
        ".github\\workflows\\ci.yml",
        ".github::$INDEX_ALLOCATION/workflows/ci.yml",
        ".github/wor\u{212a}flows/ci.yml",
        ".github/workflow\u{17f}/ci.yml",
        ".github/workflows",
        ".github",
        "CODEOWNERS",
        "codeowners",
        "docs/CodeOwners",
        "docs",
    ] {
        assert!(told(&change(path, file), "").iter().any(|t| t.contains("is a protected path")), "{path:?}");
    }
    for path in
        [".github/dependabot.yml", "workflows/ci.yml", "src/CODEOWNERS", "docs/x", "github/workflows/x"]
    {
        assert_eq!(told(&change(path, file), ""), Vec::<String>::new(), "{path:?}");
    }
}

#[test]
fn taking_a_protected_path_away_is_changing_it() {
    let gone = Change {
        path: "CODEOWNERS".into(),
        before: vec![Side { path: "CODEOWNERS".into(), mode: 0o100_644, object: "a".into() }],
        mode: ABSENT,
        object: "0".into(),
    };
    assert_eq!(told(&gone, "").len(), 2, "its place before and now");
    let moved = Change {
        path: "elsewhere".into(),
        before: vec![Side { path: ".github/workflows/a.yml".into(), mode: 0o100_644, object: "o".into() }],
        ..change("elsewhere", 0o100_644)
    };
    let said = told(&moved, "");
    assert!(
        matches!(&said[..], [one] if one.starts_with(".github/workflows/a.yml is a protected path")),
        "{said:?}"
    );
    let allowed = Settings { allow_protected: true, ..Settings::default() };
    assert_eq!(objections(&moved, &HashMap::new(), &HashMap::new(), &allowed), []);
}

#[test]
fn links_stay_inside() {
    for (path, target, out) in [
        ("a", "b", false),
        ("a", "./b/c", false),
        ("d/a", "../b", false),
        ("d/e/a", "../../b/c", false),
        ("a", "..", true),
        ("a", "../x", true),
        ("d/a", "../../x", true),
        ("d/a", "b/../../..", true),
        ("a", "b/../c", true),
        ("a", "/etc/passwd", true),
        ("a", "", true),
        ("a", "C:\\x", true),
        ("a", "\\\\server\\x", true),
        ("a", ".git/hooks", true),
        ("d/a", "../.GIT/config", true),
        ("a", "x/git~1", true),
    ] {
        assert_eq!(!told(&change(path, LINK), target).is_empty(), out, "{path} -> {target}");
    }
}

#[test]
fn git_directories_and_submodules_are_refused() {
    for path in [".git/config", "a/.GIT/x", "a/.g\u{200d}it", "a/git~1/x", ".git ./x"] {
        assert!(told(&change(path, 0o100_644), "").iter().any(|t| t.contains("git directory")), "{path:?}");
    }
    assert!(told(&change("lib", SUBMODULE), "")[0].contains("push.allow_submodules"));
    assert!(told(&change(".gitmodules", 0o100_644), "")[0].contains("push.allow_submodules"));
    assert!(told(&change(".gitModules", 0o100_644), "")[0].contains("push.allow_submodules"));
    assert_eq!(told(&change(".gitignore", 0o100_644), ""), Vec::<String>::new());
}

#[test]
fn what_is_said_cannot_turn_a_terminal() {
    let said = told(&change("docs/CODEOWNERS\u{1b}[2J\u{202e}", LINK), "/\u{1b}]0;x\u{7}");
    let said = said.join("\n");
    assert!(!said.contains(['\u{1b}', '\u{202e}', '\u{7}']), "{said:?}");
    assert!(said.contains("\\u{1b}"), "{said}");
}

#[test]
fn a_bad_pattern_is_told() {
    let bad = Globs::try_from(vec!["a[".to_owned()]).unwrap_err();
    assert!(bad.contains("\"a[\" is no path pattern"), "{bad}");
}

#[test]
fn sizes_and_numbers_have_their_bounds() {
    let sizes = HashMap::from([("o".to_owned(), 100 * MIB + 1)]);
    let all = objections(&change("a", 0o100_644), &sizes, &HashMap::new(), &Settings::default());
    assert_eq!(all[0].to_string(), "a has 101 MiB; a file may have 100 (push.max_file_mib)");
    assert_eq!(count(5_000, &Settings::default()), None);
    assert!(count(5_001, &Settings::default()).unwrap().to_string().starts_with("5001 files differ"));
}

proptest::proptest! {
    #[test]
    fn any_spelling_of_case_and_dots_is_the_same_path(
        upper in proptest::collection::vec(proptest::bool::ANY, 24), dots in 0_usize..3,
    ) {
        let path: String = ".github/workflows/ci.yml".chars().zip(upper)
            .map(|(c, up)| if up { c.to_ascii_uppercase() } else { c }).collect();
        let path = path.replace('/', &format!("{}/", ".".repeat(dots)));
        proptest::prop_assert!(Settings::default().protected.holds(&plain(&path)), "{}", path);
    }
}
