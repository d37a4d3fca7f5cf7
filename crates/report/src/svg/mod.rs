//! Pictures as SVG inside HTML: laid out by computed text widths, so that no browser is needed to know
//! that labels do not overlap.

mod callout;
mod draw;
mod layout;
pub(crate) mod palette;
mod text_width;

#[cfg(test)]
mod tests;

pub(crate) use draw::write;
pub(crate) use layout::{Drawing, Sheet, ticks};
