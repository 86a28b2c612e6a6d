//! The whole way: logs in, both stores out, with everything that may go wrong in between.

mod definitions;
mod faults;
mod files;
mod fixture;
mod forgetting;
mod push;
mod rivals;
mod views;
