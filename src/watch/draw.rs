//! Drawing: the state of the screen as cells, whatever the size of the terminal.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::details;
use super::keys::verbs;
use super::screen::{Prompt, Screen, Tab, Writing};
use super::tables;
use super::words::{clock, fit, plain, text, width, wrap};

/// Columns and rows below which nothing can be shown.
pub const SMALLEST: (u16, u16) = (40, 10);

/// Lines that the heads and the foot take.
const AROUND: u16 = 5;

/// How many rows of a list a screen of this height shows.
pub(super) fn rows_on(height: u16) -> usize {
    usize::from(height.saturating_sub(AROUND).max(1))
}

/// Draws the screen on a terminal.
pub fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let area = frame.area();
    let cursor = onto(frame.buffer_mut(), area, screen);
    if let Some(cursor) = cursor {
        frame.set_cursor_position(cursor);
    }
}

/// The screen as lines of text.
pub fn page_of(screen: &Screen) -> String {
    let area = Rect::new(0, 0, screen.width, screen.height);
    let mut buffer = Buffer::empty(area);
    onto(&mut buffer, area, screen);
    let mut page = String::new();
    for y in 0..area.height {
        let mut line = String::new();
        let mut hidden = 0;
        for x in 0..area.width {
            let symbol = buffer[(x, y)].symbol();
            // What is behind a wide character is not there.
            if hidden > 0 {
                hidden -= 1;
                continue;
            }
            hidden = width(symbol).saturating_sub(1);
            line.push_str(symbol);
        }
        page.push_str(line.trim_end());
        page.push('\n');
    }
    page
}

/// Draws lines one below the other.
struct Pen<'b> {
    buffer: &'b mut Buffer,
    area: Rect,
    colour: bool,
}

impl Pen<'_> {
    fn line(&mut self, y: u16, text: &str, style: Style) {
        if y < self.area.bottom() {
            let cells = usize::from(self.area.width);
            self.buffer.set_stringn(self.area.x, y, text, cells, style);
        }
    }

    /// A line from edge to edge.
    fn bar(&mut self, y: u16, text: &str, style: Style) {
        self.line(y, &fit(text, usize::from(self.area.width), false), style);
    }

    fn tinted(&self, color: Color) -> Style {
        if self.colour {
            Style::new().fg(color)
        } else {
            Style::new()
        }
    }
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const TURNED: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Draws; answers with where the cursor is, where a line is being written.
fn onto(buffer: &mut Buffer, area: Rect, screen: &Screen) -> Option<(u16, u16)> {
    let mut pen = Pen {
        buffer,
        area,
        colour: screen.terms.colour,
    };
    let mut cursor = None;
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let said = format!(
            "muster watch needs {} columns and {} rows; here are {} and {}. q ends it.",
            SMALLEST.0, SMALLEST.1, area.width, area.height
        );
        let lines = wrap(&said, usize::from(area.width));
        for (line, y) in lines.iter().zip(area.y..area.bottom()) {
            pen.line(y, line, Style::new());
        }
    } else {
        let foot = foot(screen, usize::from(area.width));
        tabs(&mut pen, screen);
        status(&mut pen, screen);
        let below = area.bottom()
            - u16::try_from(foot.lines.len())
                .unwrap_or(1)
                .min(area.height - 4);
        body(&mut pen, screen, below);
        for (line, y) in foot.lines.iter().zip(below..area.bottom()) {
            pen.bar(y, "", Style::new());
            pen.bar(y, &line.0, line.1);
        }
        cursor = foot.cursor.map(|(x, line)| (area.x + x, below + line));
    }
    if screen.terms.ascii {
        for y in area.top()..area.bottom() {
            for x in area.left()..area.right() {
                let cell = &mut pen.buffer[(x, y)];
                let symbol = cell.symbol();
                if !symbol.is_ascii() {
                    let plainer = if symbol == "…" { "~" } else { "?" };
                    cell.set_symbol(plainer);
                }
            }
        }
    }
    cursor.filter(|(x, y)| *x < area.right() && *y < area.bottom())
}

fn tabs(pen: &mut Pen<'_>, screen: &Screen) {
    let mut x = pen.area.x;
    let y = pen.area.y;
    let right = pen.area.right();
    let roomy = pen.area.width >= 78;
    for (at, (title, tab)) in Tab::ALL.iter().enumerate() {
        let chosen = *tab == screen.tab;
        let (text, style) = if chosen {
            (format!("[{} {title}]", at + 1), BOLD.patch(TURNED))
        } else if roomy {
            (format!(" {} {title} ", at + 1), Style::new())
        } else {
            (format!(" {} ", at + 1), Style::new())
        };
        let room = usize::from(right.saturating_sub(x));
        x = pen.buffer.set_stringn(x, y, &text, room, style).0;
    }
    if screen.held && usize::from(right.saturating_sub(x)) > 5 {
        pen.buffer.set_stringn(x + 1, y, "HELD", 4, BOLD);
    }
}

fn status(pen: &mut Pen<'_>, screen: &Screen) {
    let organization = match &screen.organization {
        Some(organization) => plain(organization),
        None => "every organisation".to_owned(),
    };
    let may = if screen.terms.changes {
        "changes allowed"
    } else {
        "read-only"
    };
    let time = clock(screen.now, screen.now);
    let right = format!("{organization}, {may}, {time}");
    let cells = usize::from(pen.area.width);
    let room = cells.saturating_sub(width(&right) + 1);
    let store = if room >= 8 {
        fit(&plain(&screen.terms.store), room, false)
    } else {
        String::new()
    };
    let text = format!("{store} {right}");
    let y = pen.area.y + 1;
    pen.bar(y, text.trim_start(), Style::new());
}

/// How a word of a row stands out, where there are colours; the word itself says it too.
fn tint(line: &str) -> Option<Color> {
    let any = |words: &[&str]| line.split([' ', ':']).any(|part| words.contains(&part));
    if any(&[
        "failed",
        "dead",
        "timed_out",
        "partly_failed",
        "OVER",
        "STILL",
    ]) {
        Some(Color::Red)
    } else if any(&["PAUSED", "off", "missed", "skipped"]) {
        Some(Color::Yellow)
    } else if any(&["running", "dispatched", "expanding"]) {
        Some(Color::Cyan)
    } else {
        None
    }
}

fn body(pen: &mut Pen<'_>, screen: &Screen, below: u16) {
    let view = screen.view();
    let cells = usize::from(pen.area.width);
    let top = pen.area.y + 2;
    if screen.prompt == Prompt::Help {
        for (line, y) in help(screen).iter().zip(top..below) {
            pen.line(y, line, Style::new());
        }
        return;
    }
    if view.open.is_some() {
        match &view.details {
            None => pen.line(top + 1, "asking the store ...", Style::new()),
            Some(Err(wrong)) => {
                let lines = wrap(&plain(wrong), cells);
                for (line, y) in lines.iter().zip(top + 1..below) {
                    pen.line(y, line, Style::new());
                }
            }
            Some(Ok(details)) => {
                let lines = details::lines(screen, details, cells);
                let shown = lines.iter().skip(view.scroll);
                for (line, y) in shown.zip(top..below) {
                    let style = if line.head { BOLD } else { Style::new() };
                    pen.line(y, &line.text, style);
                }
            }
        }
        return;
    }
    // A mark and a blank stand before each row.
    let room = cells.saturating_sub(2);
    pen.bar(
        top,
        &format!("  {}", tables::head(screen.tab, room)),
        BOLD.add_modifier(Modifier::UNDERLINED),
    );
    let Some(look) = &view.look else {
        pen.line(top + 1, "  asking the store ...", Style::new());
        return;
    };
    let rows_until = match screen.tab {
        Tab::Replicas => {
            let lines = u16::try_from(look.beside.len()).unwrap_or(0) + 1;
            below.saturating_sub(lines).max(top + 2)
        }
        _ => below,
    };
    if look.rows.is_empty() {
        let said = match look.through {
            Some(many) => format!(
                "Nothing among {many} rows is like that; there are older ones, and PgDn looks through more."
            ),
            None => tables::nothing(screen),
        };
        for (line, y) in wrap(&said, room).iter().zip(top + 2..below) {
            pen.line(y, &format!("  {line}"), Style::new());
        }
    }
    // Where the foot is high, the chosen row must be seen all the same.
    let fits = usize::from(rows_until.saturating_sub(top + 1));
    let first = (view.chosen + 1).saturating_sub(fits.max(1));
    let rows = look.rows.iter().enumerate().skip(first);
    for ((at, row), y) in rows.zip(top + 1..rows_until) {
        let line = tables::row(screen, row, room);
        let style = tint(&line).map_or(Style::new(), |color| pen.tinted(color));
        if at == view.chosen {
            pen.bar(y, &format!("> {line}"), style.patch(TURNED));
        } else {
            pen.line(y, &format!("  {line}"), style);
        }
    }
    if screen.tab == Tab::Replicas {
        for (line, y) in look.beside.iter().zip(rows_until..below) {
            pen.line(y, &format!("  {}", fit(line, room, false)), Style::new());
        }
    }
}

impl Screen {
    /// How far details can be scrolled: their last line stays on the screen.
    pub(super) fn longest_scroll(&self) -> usize {
        match &self.view().details {
            Some(Ok(details)) => {
                let lines = details::lines(self, details, usize::from(self.width));
                lines.len().saturating_sub(rows_on(self.height))
            }
            _ => 0,
        }
    }
}

struct Foot {
    lines: Vec<(String, Style)>,
    /// Where something is being written: the column, and the line of the foot.
    cursor: Option<(u16, u16)>,
}

/// The last lines: what is to be told or asked, and the keys.
fn foot(screen: &Screen, cells: usize) -> Foot {
    let mut foot = Foot {
        lines: Vec::new(),
        cursor: None,
    };
    let say = |foot: &mut Foot, said: &str, style: Style, most: usize| {
        for line in wrap(said, cells).into_iter().take(most) {
            foot.lines.push((line, style));
        }
    };
    if let Some((why, since)) = &screen.trouble {
        let known = match screen.known {
            Some(at) => format!("; what is shown was so at {}", clock(at, screen.now)),
            None => String::new(),
        };
        let said = format!(
            "! {} (since {}{known}); it is asked again and again",
            plain(why),
            clock(*since, screen.now)
        );
        say(&mut foot, &said, BOLD, 3);
    }
    let mut written = None;
    match &screen.prompt {
        Prompt::Nothing | Prompt::Help => match &screen.notice {
            Some(notice) => say(&mut foot, &plain(notice), BOLD, 4),
            None => {
                let state = where_it_is(screen);
                foot.lines.push((fit(&state, cells, false), Style::new()));
            }
        },
        Prompt::Filter { line, wrong } => {
            match wrong {
                Some(wrong) => {
                    // Where it stands is seen; a frame around it takes too many lines.
                    let framed = |line: &&str| {
                        let line = line.trim();
                        !line.is_empty() && line != "|" && !line.starts_with("-->")
                    };
                    for part in wrong.lines().filter(framed).take(6) {
                        let spaced = part.replace('\t', "    ");
                        foot.lines.push((plain(&spaced), BOLD));
                    }
                }
                None => {
                    let known = super::look::columns(screen.tab).join(" ");
                    say(&mut foot, &format!("columns: {known}"), Style::new(), 4);
                }
            }
            written = Some(("/", line));
        }
        Prompt::Organization { line } => {
            let alike = screen.alike(&line.text);
            let shown: Vec<String> = alike.iter().take(12).map(|id| plain(id)).collect();
            let said = match (shown.as_slice(), alike.len()) {
                ([], _) => "no organisation is like that".to_owned(),
                (shown, many) if many > 12 => {
                    format!("{}, and {} more", shown.join(", "), many - 12)
                }
                (shown, _) => shown.join(", "),
            };
            say(&mut foot, &said, Style::new(), 4);
            written = Some(("organisation (none: every one): ", line));
        }
        Prompt::Reason { line, change } => {
            say(&mut foot, &format!("{}: why?", change.what), BOLD, 3);
            written = Some(("reason: ", line));
        }
        Prompt::Sure(change) => say(&mut foot, &format!("{}? y/n", change.what), BOLD, 4),
    }
    if let Some((label, line)) = written {
        let at = u16::try_from(foot.lines.len()).unwrap_or(0);
        let (shown, x) = writing(line, cells.saturating_sub(width(label) + 1));
        foot.lines.push((format!("{label}{shown}"), Style::new()));
        let x = u16::try_from(width(label) + x).unwrap_or(0);
        foot.cursor = Some((x, at));
    }
    foot.lines.push((keys(screen, cells), TURNED));
    foot
}

/// A line that is being written, in so many cells: the part around the cursor, and where that is.
fn writing(line: &Writing, cells: usize) -> (String, usize) {
    let before: String = line.text.chars().take(line.at).collect();
    let after: String = line.text.chars().skip(line.at).collect();
    let mut before = plain(&before);
    while width(&before) > cells.saturating_sub(1) {
        let mut rest = before.chars();
        rest.next();
        before = rest.as_str().to_owned();
    }
    let at = width(&before);
    let room = cells.saturating_sub(at);
    let after = plain(&after);
    let after = if width(&after) > room {
        fit(&after, room, false)
    } else {
        after
    };
    (before + &after, at)
}

/// Which part of what is shown.
fn where_it_is(screen: &Screen) -> String {
    let view = screen.view();
    if view.open.is_some() {
        let most = screen.longest_scroll();
        let more = if view.scroll < most {
            "there is more below"
        } else {
            ""
        };
        return more.to_owned();
    }
    let mut said = Vec::new();
    if !view.filter.is_empty() {
        said.push(format!("where {}", plain(&view.filter)));
    }
    if let Some(look) = &view.look {
        if screen.tab != Tab::Replicas {
            said.extend(look.beside.iter().cloned());
        }
        if look.wanted.tab.rows().is_some() && !view.pages.is_empty() {
            said.push(format!("page {}", view.pages.len() + 1));
        }
        match (look.through, &look.next) {
            (Some(many), _) if !look.rows.is_empty() => {
                said.push(format!("of {many} rows looked through; PgDn looks further"));
            }
            (None, Some(_)) => said.push("more: PgDn".to_owned()),
            _ => {}
        }
        if look.wanted != screen.wanted() {
            said.push("asking the store ...".to_owned());
        }
        if screen.tab == Tab::Queues
            && let Some(row) = view.row()
            && let Some(pause) = row.get("paused").and_then(|pause| pause.as_object())
        {
            said.push(format!(
                "paused by {}: {}",
                plain(text(pause, "who")),
                plain(text(pause, "reason"))
            ));
        }
    }
    said.join("  ")
}

/// The keys of what is on the screen.
fn keys(screen: &Screen, cells: usize) -> String {
    let open = screen.view().open.is_some();
    let fixed = match &screen.prompt {
        Prompt::Nothing => None,
        Prompt::Help => Some("any key goes back"),
        Prompt::Filter { .. } => Some("enter asks  ctrl-u empties  esc leaves it as it was"),
        Prompt::Organization { .. } => Some("enter takes the first  esc leaves it as it was"),
        Prompt::Reason { .. } => Some("enter goes on  esc does nothing"),
        Prompt::Sure(_) => Some("y does it  n does nothing"),
    };
    if let Some(fixed) = fixed {
        return fixed.to_owned();
    }
    let mut keys: Vec<String> = Vec::new();
    let mut key = |name: &str, does: &str| keys.push(format!("{name} {does}"));
    if open {
        key("esc", "back");
        key("jk", "scroll");
    } else {
        key("jk", "choose");
        key("enter", "details");
        if !matches!(screen.tab, Tab::Queues | Tab::Replicas) {
            key("/", "filter");
        }
    }
    if screen.tab == Tab::Runs {
        key("t", "tasks");
    }
    if screen.terms.changes {
        for (name, verb) in verbs(screen.tab) {
            key(&name.to_string(), verb);
        }
    }
    key("o", "organisation");
    key("space", if screen.held { "let go" } else { "hold" });
    if !open {
        key("PgDn", "more");
    }
    // These have their place whatever else has.
    let always = "? help  q quit";
    let room = cells.saturating_sub(width(always) + 2);
    let mut shown = String::new();
    for key in keys {
        if width(&shown) + width(&key) + 2 > room {
            break;
        }
        shown.push_str(&key);
        shown.push_str("  ");
    }
    shown + always
}

fn help(screen: &Screen) -> Vec<String> {
    let mut lines: Vec<String> = [
        "1-6, tab, arrows   queues, runs, tasks, schedules, dead letters, replicas",
        "j k, up down       choose a row; scroll details",
        "g G, home end      the first page; the last row",
        "PgDn PgUp, n b     the next page, the page before",
        "enter, esc         details of the chosen row, and back",
        "/                  only rows of which a query is true, such as",
        "                   state = 'dead' and plugin_id = 'nmap'; esc shows all again",
        "o                  only one organisation, or every one",
        "t                  the tasks of a run",
        "space              hold what is shown still, or let it go on",
        "q, ctrl-c          quit",
        "",
    ]
    .map(str::to_owned)
    .into();
    let verbs: Vec<String> = verbs(screen.tab)
        .iter()
        .map(|(key, verb)| format!("{key} {verb}"))
        .collect();
    let changes = match (verbs.is_empty(), screen.terms.changes) {
        (true, _) => "nothing is changed here".to_owned(),
        (false, true) => format!("{}: asks first", verbs.join(", ")),
        (false, false) => format!("{}: after muster watch --allow-changes", verbs.join(", ")),
    };
    lines.push(format!("{}: {changes}", screen.tab.title()));
    let seconds = screen.terms.every.to_string();
    lines.push(format!(
        "The store is asked every {seconds}, and less often where it is slow."
    ));
    lines
}
