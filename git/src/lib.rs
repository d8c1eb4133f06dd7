//! The git command line, hardened: the one way any part of the product runs git.
