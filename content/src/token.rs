//! How many tokens of a model's context a thing will take, about.

use domain::limit::{IMAGE_TOKENS_MAX, IMAGE_TOKENS_SIDE};

/// Pixels to a multiple of which a model pads a picture.
const PAD: u32 = 28;
/// Pixels of a token.
const PIXELS: f64 = 750.0;
/// What the estimate is taken larger by.
const MARGIN: f64 = 1.2;
/// Bytes of text that make a token, about, in English and in code.
const BYTES: usize = 4;

/// Tokens of a picture of this size in pixels: scaled to [`IMAGE_TOKENS_SIDE`], padded, and never more than
/// [`IMAGE_TOKENS_MAX`].
pub fn image_tokens(width: u32, height: u32) -> u32 {
    let longest = width.max(height).max(1);
    let scale = f64::from(IMAGE_TOKENS_SIDE.min(longest)) / f64::from(longest);
    let padded = |side: u32| {
        let scaled = (f64::from(side) * scale).round().max(1.0) as u32;
        f64::from(scaled.next_multiple_of(PAD))
    };
    let tokens = (padded(width) * padded(height) / PIXELS).ceil() * MARGIN;
    (tokens.ceil() as u32).min(IMAGE_TOKENS_MAX)
}

/// Tokens of a text: a quarter of its bytes. No tokenizer is asked, for each model has its own.
pub fn text_tokens(text: &str) -> u32 {
    u32::try_from(text.len().div_ceil(BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_scaled_padded_and_capped() {
        for (size, expected) in [
            // 28 x 28 -> ceil(1.05) = 2 -> 2.4
            ((1, 1), 3),
            ((28, 28), 3),
            // 56 x 28 -> ceil(2.09) = 3 -> 3.6
            ((29, 28), 4),
            // 812 x 616 -> ceil(666.9) = 667 -> 800.4
            ((800, 600), 801),
            // 1568 x 896 -> ceil(1873.2) -> over the cap
            ((1920, 1080), 1568),
            ((8000, 8000), 1568),
            // 1568 x 28 -> ceil(58.5) = 59 -> 70.8
            ((8000, 1), 71),
            ((1, 8000), 71),
        ] {
            assert_eq!(image_tokens(size.0, size.1), expected, "{size:?}");
        }
    }

    #[test]
    fn four_bytes_of_text_are_a_token() {
        for (text, expected) in [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("\u{1f600}", 1)] {
            assert_eq!(text_tokens(text), expected, "{text}");
        }
    }
}
