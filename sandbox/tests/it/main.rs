//! The box, from outside and from inside, as root and as an ordinary user.

mod fixture;
mod layers;
mod limits;
mod tools;
mod walls;
