//! The server as its clients see it: programs, hostile ones, many at once, and a browser.

mod api;
mod browser;
mod common;
mod hostile;
mod many;
