//! Tokens of the text form, with line and column.

/// A token.
#[derive(Clone, PartialEq, Debug)]
pub enum Token {
    /// A word: letters, digits, `_`, `.`, `$`, `-`.
    Word(String),
    /// A number, as written.
    Number(String),
    /// A quoted string, unescaped.
    Str(String),
    /// `tensor<..>`, `buf<..>` or `q<..>`: the word and what stands between the brackets.
    Angle(String, String),
    /// One of `%name @name !name`, with its sigil.
    Name(char, String),
    /// Punctuation.
    Punct(char),
}

/// A token and where it starts.
#[derive(Clone, Debug)]
pub struct Spanned {
    /// The token.
    pub token: Token,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

/// Splits `text`; comments run from `//` or `#` to the end of the line.
///
/// # Errors
/// Line, column and reason.
pub fn lex(text: &str) -> Result<Vec<Spanned>, (u32, u32, String)> {
    let mut lexer = Lexer { chars: text.chars().collect(), pos: 0, line: 1, column: 1 };
    let mut out = Vec::new();
    loop {
        lexer.skip_blank();
        let (line, column) = (lexer.line, lexer.column);
        match lexer.token() {
            Ok(None) => return Ok(out),
            Ok(Some(token)) => out.push(Spanned { token, line, column }),
            Err(message) => return Err((line, column, message)),
        }
    }
}

struct Lexer {
    chars: Vec<char>,
    pos: usize,
    line: u32,
    column: u32,
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.$-".contains(c)
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.pos + ahead).copied()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.pos += 1;
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    fn skip_blank(&mut self) {
        while let Some(c) = self.peek(0) {
            let comment = c == '#' || (c == '/' && self.peek(1) == Some('/'));
            if comment {
                while self.peek(0).is_some_and(|c| c != '\n') {
                    self.bump();
                }
            } else if c.is_whitespace() {
                self.bump();
            } else {
                return;
            }
        }
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> String {
        let mut out = String::new();
        while let Some(c) = self.peek(0).filter(|&c| keep(c)) {
            out.push(c);
            self.bump();
        }
        out
    }

    fn token(&mut self) -> Result<Option<Token>, String> {
        let Some(c) = self.peek(0) else { return Ok(None) };
        let negative = c == '-' && self.peek(1).is_some_and(|d| d.is_ascii_digit() || d == 'i');
        Ok(Some(match c {
            '"' => Token::Str(self.string()?),
            '%' | '@' | '!' => {
                self.bump();
                let name = if self.peek(0) == Some('"') { self.string()? } else { self.take_while(is_word) };
                if name.is_empty() {
                    return Err(format!("a name must follow `{c}`"));
                }
                Token::Name(c, name)
            }
            c if c.is_ascii_digit() || negative => {
                self.bump();
                let rest = self.number_tail();
                Token::Number(format!("{c}{rest}"))
            }
            c if is_word(c) => {
                let word = self.take_while(is_word);
                if matches!(word.as_str(), "tensor" | "buf" | "q") && self.peek(0) == Some('<') {
                    self.bump();
                    let inner = self.take_while(|c| c != '>');
                    self.bump().ok_or("`<` is not closed")?;
                    Token::Angle(word, inner)
                } else if matches!(word.as_str(), "inf" | "NaN") {
                    Token::Number(word)
                } else {
                    Token::Word(word)
                }
            }
            c if "(){}[]=,:".contains(c) => {
                self.bump();
                Token::Punct(c)
            }
            c => return Err(format!("unexpected character `{c}`")),
        }))
    }

    /// The rest of a number: digits, a point, an exponent with its sign, or `inf`.
    fn number_tail(&mut self) -> String {
        let mut out = String::new();
        while let Some(c) = self.peek(0) {
            let sign = c == '-' && out.ends_with('e');
            if !(c.is_ascii_alphanumeric() || c == '.' || sign) {
                break;
            }
            out.push(c);
            self.bump();
        }
        out
    }

    fn string(&mut self) -> Result<String, String> {
        self.bump();
        let mut out = String::new();
        loop {
            match self.bump() {
                None => return Err("the string is not closed".into()),
                Some('"') => return Ok(out),
                Some('\\') => match self.bump() {
                    Some('n') => out.push('\n'),
                    Some(c) => out.push(c),
                    None => return Err("the string is not closed".into()),
                },
                Some(c) => out.push(c),
            }
        }
    }
}
