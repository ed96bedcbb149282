//! What JSON bodies made and broken at random are made of. Whoever tests against an oracle makes bodies of its own.

/// A string in which any character may be escaped, in any way there is.
pub fn string(text: &mut String, content: &str, random: &mut Random) {
    text.push('"');
    for char in content.chars() {
        let must = matches!(char, '"' | '\\' | '\0'..='\x1F');
        if matches!(char, '"' | '\\' | '/') && random.one_in(2) {
            text.push('\\');
            text.push(char);
        } else if must || random.one_in(10) {
            let upper = random.one_in(2);
            for unit in char.encode_utf16(&mut [0; 2]) {
                let digits = format!("{unit:04x}");
                text.push_str("\\u");
                text.push_str(&if upper { digits.to_uppercase() } else { digits });
            }
        } else {
            text.push(char);
        }
    }
    text.push('"');
}

/// Any white space, mostly none.
pub fn space(text: &mut String, random: &mut Random) {
    while random.one_in(6) {
        text.push_str(random.pick(&[" ", "\t", "\n", "\r"]));
    }
}

/// A key, and what `value` writes behind it.
pub fn member(
    text: &mut String,
    key: &str,
    random: &mut Random,
    value: impl FnOnce(&mut String, &mut Random),
) {
    string(text, key, random);
    space(text, random);
    text.push(':');
    space(text, random);
    value(text, random);
}

/// Up to six items with commas between.
pub fn list(
    text: &mut String,
    brackets: &str,
    random: &mut Random,
    item: impl Fn(&mut String, &mut Random),
) {
    text.push_str(&brackets[..1]);
    space(text, random);
    for index in 0..random.below(7) {
        if index > 0 {
            text.push(',');
            space(text, random);
        }
        item(text, random);
        space(text, random);
    }
    text.push_str(&brackets[1..]);
}

/// One small change anywhere.
pub fn damage(body: &mut Vec<u8>, random: &mut Random) {
    const TELLING: &[u8] = b"\"\\{}[]:, \n\r0-eumid\xEF\xBB\xBF\xFF\0";
    let at = random.below(body.len() + 1);
    let telling = TELLING[random.below(TELLING.len())];
    match random.below(6) {
        0 => body.insert(at, telling),
        1 => body.truncate(at),
        2 => {
            let end = body.len().min(at + random.below(8));
            body.drain(at..end);
        }
        3 => {
            let end = body.len().min(at + random.below(30));
            body.extend_from_within(at..end);
        }
        kind => {
            let bit = 1 << random.below(8);
            if let Some(byte) = body.get_mut(at) {
                *byte = if kind == 4 { telling } else { *byte ^ bit };
            }
        }
    }
}

/// A body, shown when a check on it fails or panics.
pub struct Case {
    seed: u64,
    pub body: Vec<u8>,
}

impl Case {
    pub fn new(seed: u64, body: Vec<u8>) -> Self {
        Self { seed, body }
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}: {}", self.seed, self.body.escape_ascii());
        }
    }
}

/// Splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
pub struct Random(pub u64);

impl Random {
    /// Chance for one input: the same whenever it is checked.
    #[allow(dead_code, reason = "only some tests have inputs")]
    pub fn of(input: &[u8]) -> Self {
        // FNV-1a (RFC 9923).
        Self(input.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
        }))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Less than `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or_default() % bound
    }

    /// True once in so many times.
    pub fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    /// One of some texts.
    pub fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}
