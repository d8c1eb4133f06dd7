//! A setting with a value of its own for some repositories.

use std::collections::BTreeMap;

use crate::RepoRef;

/// One value for all repositories but those that have their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PerRepo<T> {
    /// For repositories without a value of their own.
    pub default: T,
    /// By the repository's name, as [`RepoRef`] is displayed.
    pub by_repo: BTreeMap<String, T>,
}

impl<T> PerRepo<T> {
    /// The same for all.
    pub fn new(default: T) -> Self {
        PerRepo { default, by_repo: BTreeMap::new() }
    }

    /// The value that holds for `repo`.
    pub fn of(&self, repo: &RepoRef) -> &T {
        self.by_repo.get(&repo.to_string()).unwrap_or(&self.default)
    }
}
