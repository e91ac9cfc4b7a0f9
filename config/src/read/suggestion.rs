//! What someone may have meant by a word that is not known.

/// Most letters that may differ between what was written and what is suggested.
const MAX_DIFFERENCE: usize = 2;

/// Longest word for which something is looked up.
const MAX_WORD_BYTES: usize = 64;

/// The word of `known` that is most like `word`, if one is like it at all. `secretFile` and `secret-file` are exactly like
/// `secret_file`.
pub(crate) fn suggestion<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    if word.is_empty() || word.len() > MAX_WORD_BYTES {
        return None;
    }
    let letters = |word: &str| word.replace(['_', '-', ' '], "").to_lowercase();
    let written = letters(word);
    let distance = |known: &&&str| strsim::damerau_levenshtein(&written, &letters(known));
    let closest = known.iter().min_by_key(distance)?;
    let bearable = MAX_DIFFERENCE.min(written.chars().count() / 2);
    let closest_distance = distance(&closest);
    (closest_distance <= bearable).then_some(*closest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_understood_and_another_word_is_not() {
        let known = ["size", "thin", "block_size", "vdi"];
        assert_eq!(suggestion("sise", &known), Some("size"));
        assert_eq!(suggestion("blockSize", &known), Some("block_size"));
        assert_eq!(suggestion("vid", &known), Some("vdi"));
        assert_eq!(suggestion("colour", &known), None);
        assert_eq!(suggestion("", &known), None);
        assert_eq!(suggestion("x", &known), None);
    }
}
