//! Where a command writes: results to standard output as a table or as JSON, everything else to standard error.
//!
//! Colours and moving progress exist only on a terminal; elsewhere the same words come as plain lines.

use crate::cli::failure::{Failure, clean};
use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, presets};
use indicatif::{ProgressBar, ProgressStyle};
use owo_colors::{OwoColorize, Style};
use serde::Serialize;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::time::Duration;

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: aligned columns.
    #[default]
    Table,
    /// For programs: one JSON document, or one line of JSON per message of a watch.
    Json,
}

/// What a cell or word means; decides its colour on a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tint {
    /// Nothing special.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Under way, or to be looked at.
    Busy,
    /// Wrong.
    Bad,
    /// Over.
    Faint,
}

impl Tint {
    /// What a session's state means.
    #[must_use]
    pub fn of_state(word: &str) -> Self {
        match word {
            "running" => Self::Good,
            "pending" | "provisioning" | "stopping" => Self::Busy,
            "failed" => Self::Bad,
            "stopped" => Self::Faint,
            _ => Self::Plain,
        }
    }

    const fn cell(self) -> Option<comfy_table::Color> {
        match self {
            Self::Plain => None,
            Self::Good => Some(comfy_table::Color::Green),
            Self::Busy => Some(comfy_table::Color::Yellow),
            Self::Bad => Some(comfy_table::Color::Red),
            Self::Faint => Some(comfy_table::Color::DarkGrey),
        }
    }

    const fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Good => Style::new().green(),
            Self::Busy => Style::new().yellow(),
            Self::Bad => Style::new().red(),
            Self::Faint => Style::new().bright_black(),
        }
    }
}

/// Where a command writes.
pub struct Console {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    format: Format,
    colour: bool,
    err_colour: bool,
    live: bool,
    bar: Option<ProgressBar>,
    answers: Option<Box<dyn BufRead + Send>>,
}

impl Console {
    /// The process's own standard output and error. `NO_COLOR` (not empty) forbids colours.
    #[must_use]
    pub fn standard(format: Format) -> Self {
        let (out, err) = (std::io::stdout(), std::io::stderr());
        let allowed = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && std::env::var_os("TERM").is_none_or(|v| v != "dumb");
        let (out_terminal, err_terminal) = (out.is_terminal(), err.is_terminal());
        Self {
            out: Box::new(std::io::BufWriter::new(out)),
            err: Box::new(err),
            format,
            colour: out_terminal && allowed,
            err_colour: err_terminal && allowed,
            live: err_terminal,
            bar: None,
            answers: (std::io::stdin().is_terminal() && err_terminal).then(|| Box::new(BufReader::new(std::io::stdin())) as _),
        }
    }

    /// Any two writers, treated as no terminals.
    #[must_use]
    pub fn plain(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>, format: Format) -> Self {
        Self { out, err, format, colour: false, err_colour: false, live: false, bar: None, answers: None }
    }

    /// The same with somebody to ask, who answers here.
    #[must_use]
    pub fn answered_by(self, answers: Box<dyn BufRead + Send>) -> Self {
        Self { answers: Some(answers), ..self }
    }

    /// Results are wanted as JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes one JSON document, indented.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(|e| Failure::local("OUTPUT", format!("cannot write as JSON: {e}")))?;
        self.line(&text)
    }

    /// Writes one line of JSON at once: for streams.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn json_line(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|e| Failure::local("OUTPUT", format!("cannot write as JSON: {e}")))?;
        self.line(&text)
    }

    /// Writes a line of results at once.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        if let Some(bar) = &self.bar {
            bar.suspend(|| writeln!(self.out, "{text}").and_then(|()| self.out.flush()))?;
            return Ok(());
        }
        writeln!(self.out, "{text}")?;
        self.out.flush()?;
        Ok(())
    }

    /// Writes bytes of results as they are.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes)?;
        self.out.flush()?;
        Ok(())
    }

    /// Writes a table, unless it has no rows and `empty` says what to tell instead (to standard error).
    ///
    /// # Errors
    /// When it can't be written.
    pub fn table(&mut self, table: &Table, empty: &str) -> Result<(), Failure> {
        if table.rows.is_empty() {
            self.note(empty);
            return Ok(());
        }
        let text = table.render(self.colour);
        self.line(&text)
    }

    /// A word of results in its colour.
    #[must_use]
    pub fn tinted(&self, text: &str, tint: Tint) -> String {
        if self.colour { text.style(tint.style()).to_string() } else { text.to_owned() }
    }

    /// Tells something that is no result. Nobody fails because of it.
    pub fn note(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => drop(writeln!(self.err, "{text}")),
        }
    }

    /// Whether there is somebody to ask: a terminal on both sides.
    #[must_use]
    pub fn can_ask(&self) -> bool {
        self.answers.is_some()
    }

    /// Asks, and waits for a line: true for `y` and `yes`, false for anything else and where nobody can be asked.
    pub fn confirm(&mut self, question: &str) -> bool {
        let Some(answers) = &mut self.answers else { return false };
        drop(write!(self.err, "{question} [y/N] ").and_then(|()| self.err.flush()));
        let mut line = String::new();
        answers.read_line(&mut line).is_ok() && matches!(line.trim().to_lowercase().as_str(), "y" | "yes")
    }

    /// Tells something to beware of.
    pub fn warn(&mut self, text: &str) {
        let style = if self.err_colour { Style::new().yellow().bold() } else { Style::new() };
        let text = format!("{} {}", "warning:".style(style), clean(text));
        self.note(&text);
    }

    /// Tells why the command failed.
    pub fn failure(&mut self, failure: &Failure) {
        self.rest();
        if failure.is_silent() {
            return;
        }
        let text = if self.is_json() { failure.json() } else { failure.text(self.err_colour) };
        drop(self.err.write_all(text.as_bytes()));
        drop(self.err.flush());
    }

    /// Shows what is being waited for: a moving line on a terminal, nothing elsewhere.
    pub fn busy(&mut self, what: &str) {
        if !self.live {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_message(clean(what));
    }

    /// Nothing is being waited for any more.
    pub fn rest(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// A table without lines: columns two spaces apart, numbers to the right.
#[derive(Clone, Debug, Default)]
pub struct Table {
    header: Vec<(String, CellAlignment)>,
    rows: Vec<Vec<Cell>>,
}

/// A cell of a table.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    tint: Tint,
}

impl Cell {
    /// A cell with a meaning.
    #[must_use]
    pub fn tinted(text: impl AsRef<str>, tint: Tint) -> Self {
        Self { text: clean(text.as_ref()), tint }
    }

    /// A session's state.
    #[must_use]
    pub fn state(word: &str) -> Self {
        Self::tinted(word, Tint::of_state(word))
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::tinted(text, Tint::Plain)
    }
}

impl Table {
    /// A table with these headings; those that begin with `>` are of numbers and stand to the right.
    #[must_use]
    pub fn new<'a>(headings: impl IntoIterator<Item = &'a str>) -> Self {
        let column = |name: &str| match name.strip_prefix('>') {
            Some(name) => (clean(name), CellAlignment::Right),
            None => (clean(name), CellAlignment::Left),
        };
        Self { header: headings.into_iter().map(column).collect(), rows: Vec::new() }
    }

    /// A table of names and values, without headings.
    #[must_use]
    pub fn facts() -> Self {
        Self::default()
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Adds a name and its value; nothing when there is no value.
    pub fn fact(&mut self, name: &str, value: impl Into<Cell>) {
        let value = value.into();
        if !value.text.is_empty() && value.text != crate::cli::words::NOTHING {
            self.row([name.into(), value]);
        }
    }

    /// The text, without a line feed at the end.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        if !self.header.is_empty() {
            let bold = |name: &String| comfy_table::Cell::new(name).add_attribute(comfy_table::Attribute::Bold);
            table.set_header(self.header.iter().map(|(name, _)| bold(name)).collect::<Vec<_>>());
        }
        for row in &self.rows {
            let cell = |cell: &Cell| {
                let made = comfy_table::Cell::new(&cell.text);
                cell.tint.cell().map_or(made.clone(), |colour| made.fg(colour))
            };
            table.add_row(row.iter().map(cell).collect::<Vec<_>>());
        }
        for (at, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            column.set_cell_alignment(self.header.get(at).map_or(CellAlignment::Left, |(_, alignment)| *alignment));
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["OFFER", ">COUNT", ">PRICE/H", "REGION"]);
        table.row(["vastai-1".into(), "1".into(), "$0.2467".into(), "US, Québec".into()]);
        table.row([Cell::tinted("vastai-22222", Tint::Good), "16".into(), "$12.0000".into(), "-".into()]);
        table
    }

    #[test]
    fn columns_align_and_numbers_stand_to_the_right() {
        assert_eq!(
            table().render(false),
            "OFFER         COUNT   PRICE/H  REGION\n\
             vastai-1          1   $0.2467  US, Québec\n\
             vastai-22222     16  $12.0000  -"
        );
    }

    #[test]
    fn colours_only_when_asked_and_never_in_the_way_of_alignment() {
        let coloured = table().render(true);
        assert!(coloured.contains("\u{1b}["));
        let mut plain = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once('\u{1b}') {
            plain.push_str(before);
            rest = after.split_once('m').unwrap().1;
        }
        plain.push_str(rest);
        let trimmed: Vec<&str> = plain.lines().map(str::trim_end).collect();
        assert_eq!(trimmed.join("\n"), table().render(false));
    }

    #[test]
    fn text_from_elsewhere_cannot_steer_the_terminal_or_break_a_row() {
        let mut table = Table::new(["A", "B"]);
        table.row(["x\u{1b}[2J\ny".into(), "z".into()]);
        assert_eq!(table.render(false), "A        B\nx [2J y  z");
    }

    #[test]
    fn facts_without_value_are_left_out() {
        let mut facts = Table::facts();
        facts.fact("State", "running");
        facts.fact("Error", "");
        facts.fact("Expires", "-");
        facts.fact("Price per hour", "$0.2467");
        assert_eq!(facts.render(false), "State           running\nPrice per hour  $0.2467");
    }
}
