//! What all pictures are held to.

use domain::limit::{ATTACHMENT_IMAGE_MAX_PIXELS, ATTACHMENT_IMAGE_MAX_SIDE};

use crate::Refusal;

/// Whether a picture of this size may be looked at further: every later step costs by the pixel.
pub(crate) fn bounded(width: u32, height: u32) -> Result<(), Refusal> {
    if width == 0 || height == 0 {
        return Err(bad("it has no pixels"));
    }
    let pixels = u64::from(width) * u64::from(height);
    if width.max(height) > ATTACHMENT_IMAGE_MAX_SIDE || pixels > ATTACHMENT_IMAGE_MAX_PIXELS {
        return Err(Refusal::ImageTooLarge { width, height });
    }
    Ok(())
}

pub(crate) fn bad(why: impl Into<String>) -> Refusal {
    Refusal::BadImage(why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_and_the_whole_are_bounded() {
        for (width, height, ok) in [
            (1, 1, true),
            (8_000, 1, true),
            (1, 8_000, true),
            (8_000, 6_250, true),
            (8_000, 6_251, false),
            (8_001, 1, false),
            (1, 8_001, false),
            (u32::MAX, u32::MAX, false),
        ] {
            let expected = if ok { Ok(()) } else { Err(Refusal::ImageTooLarge { width, height }) };
            assert_eq!(bounded(width, height), expected);
        }
        assert_eq!(bounded(0, 1), Err(bad("it has no pixels")));
        assert_eq!(bounded(1, 0), Err(bad("it has no pixels")));
    }
}
