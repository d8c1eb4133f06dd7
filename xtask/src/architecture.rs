//! Who may know whom: the direction of dependencies between our crates, read from `cargo metadata`.
//!
//! Every crate has a row. A new crate, or a new arrow, is a decision: it is made here, where a reader can see it.
//! Dependencies of tests are not looked at; `testkit` may know everybody, and nobody ships it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::{place, step};

/// A crate and those of ours that it may depend on.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("git", &[]),
    ("redact", &[]),
    ("objects", &[]),
    ("objects-s3", &["objects"]),
    ("trace", &[]),
    ("screening", &[]),
    ("sandbox", &["domain"]),
    ("content", &["domain", "sandbox"]),
    ("protocol", &["domain"]),
    ("identity", &["domain"]),
    ("telemetry", &["domain", "redact"]),
    ("otlp", &["telemetry"]),
    ("store", &["domain"]),
    ("forge", &["domain", "git", "redact"]),
    ("compute", &["domain", "git", "sandbox"]),
    (
        "orchestrator",
        &[
            "compute",
            "content",
            "domain",
            "forge",
            "git",
            "objects",
            "redact",
            "screening",
            "store",
            "telemetry",
            "trace",
        ],
    ),
    (
        "gateway",
        &[
            "domain",
            "forge",
            "git",
            "objects",
            "orchestrator",
            "protocol",
            "redact",
            "screening",
            "store",
            "telemetry",
            "trace",
        ],
    ),
    (
        "server",
        &[
            "compute",
            "content",
            "domain",
            "forge",
            "gateway",
            "git",
            "objects",
            "objects-s3",
            "identity",
            "orchestrator",
            "otlp",
            "protocol",
            "redact",
            "sandbox",
            "screening",
            "store",
            "telemetry",
        ],
    ),
    ("worker", &["domain", "git", "protocol", "redact", "sandbox"]),
    (
        "cli",
        &[
            "compute", "content", "domain", "gateway", "git", "identity", "protocol", "sandbox", "server",
            "trace", "worker",
        ],
    ),
    (
        "testkit",
        &[
            "compute",
            "domain",
            "forge",
            "gateway",
            "git",
            "objects",
            "orchestrator",
            "protocol",
            "redact",
            "sandbox",
            "server",
            "store",
            "worker",
        ],
    ),
    ("xtask", &[]),
];

/// A package of somebody else that only these crates of ours may use, so that what it does is done in one place.
const ONLY_USED_BY: &[(&str, &[&str])] = &[
    ("rusqlite", &["store"]),
    ("object_store", &["objects-s3"]),
    ("axum", &["gateway", "server", "testkit"]),
    ("opentelemetry-proto", &["otlp"]),
];

/// What would make `domain` read a clock, do IO, or wait.
const NEVER_IN_DOMAIN: &[&str] =
    &["tokio", "futures-util", "async-trait", "reqwest", "hyper", "axum", "rusqlite"];

/// A crate of the workspace with its direct dependencies: those that are shipped, tests' not.
type Graph = BTreeMap<String, Vec<String>>;

/// Every broken rule of the workspace as it stands; empty when all hold.
pub fn violations() -> Result<Vec<String>> {
    Ok(broken(&read()?))
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

fn read() -> Result<Graph> {
    let metadata = step::read(place::cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Metadata = serde_json::from_str(&metadata).context("reading cargo's metadata")?;
    let shipped = |dependency: &Dependency| dependency.kind.as_deref() != Some("dev");
    let names = |dependencies: Vec<Dependency>| {
        dependencies.into_iter().filter(shipped).map(|dependency| dependency.name).collect()
    };
    Ok(metadata.packages.into_iter().map(|package| (package.name, names(package.dependencies))).collect())
}

fn broken(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for (name, dependencies) in graph {
        let Some((_, allowed)) = MAY_DEPEND_ON.iter().find(|(row, _)| row == name) else {
            found.push(format!(
                "`{name}` has no row in MAY_DEPEND_ON (xtask/src/architecture.rs): say what it may know"
            ));
            continue;
        };
        for dependency in dependencies {
            if graph.contains_key(dependency) && !allowed.contains(&dependency.as_str()) {
                found.push(format!("`{name}` must not depend on `{dependency}`"));
            }
            if let Some((_, users)) = ONLY_USED_BY.iter().find(|(package, _)| package == dependency)
                && !users.contains(&name.as_str())
            {
                found.push(format!("`{name}` must not use `{dependency}`: only {} may", users.join(", ")));
            }
            if name == "domain" && NEVER_IN_DOMAIN.contains(&dependency.as_str()) {
                found.push(format!(
                    "`domain` must not use `{dependency}`: it has no clock, no IO and no async"
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_keeps_to_its_architecture() {
        let graph = read().unwrap();
        assert!(
            graph.contains_key("domain") && graph.contains_key("xtask"),
            "read the wrong workspace: {graph:?}"
        );
        assert_eq!(broken(&graph), Vec::<String>::new());
    }

    /// The rows can only point down: a cycle or an upward arrow would be a mistake of this file.
    #[test]
    fn the_rows_are_in_order() {
        for (place, (name, allowed)) in MAY_DEPEND_ON.iter().enumerate() {
            for dependency in *allowed {
                let below = MAY_DEPEND_ON[..place].iter().any(|(row, _)| row == dependency);
                assert!(below, "`{name}` may depend on `{dependency}`, which does not stand above it");
            }
        }
    }

    #[test]
    fn the_box_side_reaches_neither_the_facts_nor_the_control_plane() {
        let reached = reachable("worker");
        for forbidden in ["store", "server", "orchestrator", "gateway", "compute", "forge"] {
            assert!(!reached.contains(&forbidden), "worker reaches {forbidden}: {reached:?}");
        }
    }

    #[test]
    fn each_rule_finds_who_breaks_it() {
        check("worker -> store", "`worker` must not depend on `store`");
        check("domain -> protocol", "`domain` must not depend on `protocol`");
        check("orchestrator -> rusqlite", "`orchestrator` must not use `rusqlite`: only store may");
        check("forge -> axum", "`forge` must not use `axum`: only gateway, server, testkit may");
        check("domain -> tokio", "`domain` must not use `tokio`: it has no clock, no IO and no async");
        check("server -> testkit", "`server` must not depend on `testkit`");
        check(
            "brand_new ->",
            "`brand_new` has no row in MAY_DEPEND_ON (xtask/src/architecture.rs): say what it may know",
        );
        check("store -> domain rusqlite", "");
    }

    fn check(arrow: &str, expected: &str) {
        let mut graph: Graph = MAY_DEPEND_ON.iter().map(|(name, _)| (name.to_string(), Vec::new())).collect();
        let (name, dependencies) = arrow.split_once("->").unwrap();
        let dependencies = dependencies.split_whitespace().map(String::from).collect();
        graph.insert(name.trim().into(), dependencies);
        assert_eq!(broken(&graph).join("\n"), expected, "{arrow}");
    }

    fn reachable(name: &str) -> Vec<&'static str> {
        let (_, direct) = MAY_DEPEND_ON.iter().find(|(row, _)| *row == name).unwrap();
        direct.iter().flat_map(|dependency| [vec![*dependency], reachable(dependency)].concat()).collect()
    }
}
