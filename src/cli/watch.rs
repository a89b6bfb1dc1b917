//! The terminal screen as a command: the terminal, the keys, and whoever asks the store behind it.

use std::io::{IsTerminal, stdout};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use ratatui::crossterm::event::{
    self, DisableBracketedPaste, EnableBracketedPaste, Event, KeyEventKind,
};
use ratatui::crossterm::execute;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::output::{print, print_json};
use super::{Failure, Output, ask, door, rules};
use crate::answer::answer;
use crate::document::nearest;
use crate::ground::Ground;
use crate::moment::{Moment, Span};
use crate::settings::Settings;
use crate::store::{Store, StoreError};
use crate::watch::{
    Change, Effect, Look, Looker, SMALLEST, Screen, Tab, Terms, Wanted, draw, outcome, page_of,
};
use crate::wire::Requested;

/// A store that has not answered for so long is told of.
const SOON: Duration = Duration::from_secs(3);
/// And asked anew after so long, over new connections.
const PATIENCE: Duration = Duration::from_secs(60);
/// A store is asked for no more than this part of the time.
const SHARE: u32 = 4;
/// And yet as often as this.
const SELDOM: Duration = Duration::from_secs(60);
/// How long the thread that reads keys sits before it looks whether it is still needed.
const GLANCE: Duration = Duration::from_millis(200);

pub const ABOUT: &str = "\
Examples:
  muster watch                                    look; q quits, ? shows the keys
  muster watch --tab tasks --where \"state = 'dead'\"
  muster watch --allow-changes                    pause, resume, start, cancel, retry, redrive, drop: each asks first
  muster watch --once --size 100x30               one screen as text, for scripts

It needs a terminal of at least 40 columns and 10 rows, works over SSH and without colours (NO_COLOR, --no-color).";

#[derive(Debug, Args)]
pub struct Watch {
    /// What it begins with
    #[arg(long, value_enum, default_value_t = Begin::Queues)]
    tab: Begin,
    /// Only what is of this organisation
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// Only rows of which this query over their columns is true
    #[arg(long = "where", value_name = "QUERY")]
    condition: Option<String>,
    /// The details of the one with this id; schedules and queues by their names
    #[arg(long, value_name = "ID")]
    open: Option<String>,
    /// How often the store is asked
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = often)]
    every: Span,
    /// Keys may change something; each asks first
    #[arg(long)]
    allow_changes: bool,
    /// Print one screen as text, and end
    #[arg(long)]
    once: bool,
    /// How large that is
    #[arg(long, value_name = "COLUMNSxROWS", default_value = "80x24", requires = "once", value_parser = size)]
    size: (u16, u16),
    /// Nothing but ASCII; so the screen is where the locale is not UTF-8
    #[arg(long)]
    ascii: bool,
    /// No colours; so it is where NO_COLOR is set
    #[arg(long)]
    no_color: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Begin {
    Queues,
    Runs,
    Tasks,
    Schedules,
    DeadLetters,
    Replicas,
}

impl Begin {
    fn tab(self) -> Tab {
        match self {
            Begin::Queues => Tab::Queues,
            Begin::Runs => Tab::Runs,
            Begin::Tasks => Tab::Tasks,
            Begin::Schedules => Tab::Schedules,
            Begin::DeadLetters => Tab::DeadLetters,
            Begin::Replicas => Tab::Replicas,
        }
    }
}

fn often(text: &str) -> Result<Span, String> {
    let every = Span::parse(text)?;
    if (Span::seconds(1)..=Span::seconds(3600)).contains(&every) {
        Ok(every)
    } else {
        Err("from 1s to 1h".to_owned())
    }
}

fn size(text: &str) -> Result<(u16, u16), String> {
    let wrong = || {
        format!(
            "write it as 80x24: at least {}x{}, at most 500x200",
            SMALLEST.0, SMALLEST.1
        )
    };
    let (columns, rows) = text.split_once('x').ok_or_else(wrong)?;
    let columns: u16 = columns.parse().map_err(|_| wrong())?;
    let rows: u16 = rows.parse().map_err(|_| wrong())?;
    if (SMALLEST.0..=500).contains(&columns) && (SMALLEST.1..=200).contains(&rows) {
        Ok((columns, rows))
    } else {
        Err(wrong())
    }
}

/// Whether the locale says that the terminal takes more than ASCII.
fn utf8() -> bool {
    let said = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|said| !said.is_empty());
    let said = said.unwrap_or_default().to_lowercase();
    said.contains("utf-8") || said.contains("utf8")
}

pub async fn run(settings: &Settings, watch: &Watch, output: Output) -> Result<(), Failure> {
    let terms = Terms {
        store: settings.store.url.to_string(),
        changes: watch.allow_changes,
        ascii: watch.ascii || !(watch.once || utf8()),
        colour: !watch.no_color && std::env::var_os("NO_COLOR").is_none_or(|said| said.is_empty()),
        every: watch.every,
    };
    let organization = watch.organization.clone();
    let mut screen = Screen::new(terms, watch.tab.tab(), organization, Moment::now());
    if let Some(condition) = &watch.condition {
        screen
            .filter(condition)
            .map_err(|wrong| Failure::Usage(format!("--where: {wrong}")))?;
    }
    if let Some(id) = &watch.open {
        screen.open(id.clone());
    }
    if !watch.once {
        terminal_is_there(output)?;
    }
    // A store that is away, not there or not ours is told as every command tells it; later it is waited for.
    let ground = door::found(settings).await?;
    if watch.once {
        screen.resize(watch.size.0, watch.size.1);
        return once(&ground, screen, output).await;
    }
    let mut terminal = ratatui::try_init()?;
    leave_well();
    let done = watched(settings, ground, &mut terminal, screen).await;
    let pasting = execute!(stdout(), DisableBracketedPaste);
    let shown = terminal.show_cursor();
    let restored = ratatui::try_restore();
    done.and(Ok(pasting.and(shown).and(restored)?))
}

fn terminal_is_there(output: Output) -> Result<(), Failure> {
    let instead = "`muster watch --once` prints one screen as text; `muster queue list --output json`, \
                   `muster task list` and the like are for scripts";
    if output == Output::Json {
        return Err(Failure::Usage(format!(
            "--output json: the screen is for people, with --once it prints what it shows as JSON; {instead}"
        )));
    }
    if !stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!(
            "the screen needs a terminal, and standard input or output is none: {instead}"
        )));
    }
    match std::env::var("TERM") {
        Ok(term) if !term.is_empty() && term != "dumb" => Ok(()),
        _ => Err(Failure::Usage(format!(
            "the terminal cannot move its cursor (TERM): {instead}"
        ))),
    }
}

/// After a panic too the terminal is as it was.
fn leave_well() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let _ = execute!(
            stdout(),
            DisableBracketedPaste,
            ratatui::crossterm::cursor::Show
        );
        before(panic);
    }));
}

async fn once(ground: &Arc<Ground>, mut screen: Screen, output: Output) -> Result<(), Failure> {
    let look = Looker::new(ground.clone()).look(&screen.wanted()).await?;
    ground.store.close().await;
    if let Some(Err(wrong)) = &look.details {
        let known = look.organizations.iter().map(String::as_str);
        let near = match &screen.wanted().organization {
            Some(id) => nearest(id, known.filter(|known| *known != id)),
            None => Vec::new(),
        };
        let help = match near.as_slice() {
            [] => String::new(),
            near => format!("did you mean {}?", near.join(" or ")),
        };
        return Err(Failure::no("not_found", wrong, &help));
    }
    match output {
        Output::Json => print_json(&match &look.details {
            Some(Ok(details)) => json!(details),
            _ => json!({"rows": look.rows, "next": look.next}),
        }),
        Output::Table => {
            screen.seen(look);
            print(page_of(&screen).trim_end_matches('\n'));
        }
    }
    Ok(())
}

/// What is asked of the store now; the number rises when the same is to be asked again at once.
#[derive(Clone, Debug, Default, PartialEq)]
struct Asked {
    wanted: Wanted,
    time: u64,
}

/// What is heard from whoever asks the store.
enum Heard {
    Look(Box<Look>),
    Trouble(String),
    Done(String),
}

/// The screen, until somebody quits, a signal comes, or the terminal is gone.
async fn watched(
    settings: &Settings,
    ground: Arc<Ground>,
    terminal: &mut ratatui::DefaultTerminal,
    mut screen: Screen,
) -> Result<(), Failure> {
    execute!(stdout(), EnableBracketedPaste)?;
    let mut signals = [
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
        signal(SignalKind::interrupt())?,
    ];
    let [terminate, hangup, interrupt] = &mut signals;
    let mut events = events();
    let size = terminal.size()?;
    screen.resize(size.width, size.height);
    let (asks, asked) = watch::channel(Asked {
        wanted: screen.wanted(),
        time: 0,
    });
    let (tell, mut heard) = mpsc::channel(16);
    let (grounds, current) = watch::channel(ground);
    let every = screen.terms.every.as_duration();
    let asking = tokio::spawn(keep_asking(
        settings.clone(),
        grounds,
        asked,
        tell.clone(),
        every,
    ));
    let mut time = 0;
    let done = loop {
        let drawn = terminal.draw(|frame| draw(frame, &screen));
        if let Err(error) = drawn {
            break Err(Failure::Found(format!(
                "the terminal cannot be written: {error}"
            )));
        }
        let mut next = tokio::select! {
            event = events.recv() => event,
            Some(heard) = heard.recv() => {
                match heard {
                    Heard::Look(look) => screen.seen(*look),
                    Heard::Trouble(why) => screen.failed(why, Moment::now()),
                    Heard::Done(said) => {
                        screen.told(said);
                        time += 1;
                    }
                }
                Some(Event::FocusGained)
            }
            _ = terminate.recv() => break Ok(()),
            _ = hangup.recv() => break Ok(()),
            _ = interrupt.recv() => break Ok(()),
        };
        // All that was pressed meanwhile, before it is drawn again.
        let effect = loop {
            let effect = match next {
                None => Effect::Quit,
                Some(event) => happened(&mut screen, &event),
            };
            if effect != Effect::Nothing {
                break effect;
            }
            match events.try_recv() {
                Ok(event) => next = Some(event),
                Err(_) => break Effect::Nothing,
            }
        };
        match effect {
            Effect::Nothing => {}
            Effect::Quit => break Ok(()),
            Effect::Do(change) => {
                let ground = current.borrow().clone();
                let tell = tell.clone();
                screen.told(format!("{} ...", change.what));
                tokio::spawn(async move {
                    let _ = tell.send(Heard::Done(done(&ground, &change).await)).await;
                });
            }
        }
        if asking.is_finished() {
            break Err(Failure::Found(
                "whoever asked the store has ended".to_owned(),
            ));
        }
        let wanted = screen.wanted();
        asks.send_if_modified(|asked| {
            let asks = Asked { wanted, time };
            let other = *asked != asks;
            *asked = asks;
            other
        });
    };
    asking.abort();
    done
}

fn happened(screen: &mut Screen, event: &Event) -> Effect {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => return screen.press(*key),
        Event::Resize(width, height) => screen.resize(*width, *height),
        Event::Paste(text) => screen.paste(text),
        _ => {}
    }
    Effect::Nothing
}

/// Keys and sizes of the terminal, from a thread of their own: reading them blocks.
fn events() -> mpsc::Receiver<Event> {
    let (tell, events) = mpsc::channel(64);
    std::thread::spawn(move || {
        while !tell.is_closed() {
            let event = match event::poll(GLANCE) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            // A terminal that cannot be read is gone: the channel closes, and the screen ends.
            let Ok(event) = event else { return };
            if tell.blocking_send(event).is_err() {
                return;
            }
        }
    });
    events
}

/// Does what somebody said yes to, once: it has an id as every request has.
async fn done(ground: &Ground, change: &Change) -> String {
    let requested = Requested {
        id: Some(ground.ids().next(ground.clock.now())),
        command: change.command.to_owned(),
        organization: change.organization.clone(),
        args: change.args.clone(),
    };
    match answer(ground, &requested, &ask::who()).await {
        Ok(answer) => outcome(change, &answer),
        Err(error) => format!("it is not known whether it was done: {error}"),
    }
}

/// Asks the store for what is wanted, again and again; what is no longer wanted is not waited for.
async fn keep_asking(
    settings: Settings,
    grounds: watch::Sender<Arc<Ground>>,
    mut asked: watch::Receiver<Asked>,
    tell: mpsc::Sender<Heard>,
    every: Duration,
) {
    let mut looker = Looker::new(grounds.borrow().clone());
    loop {
        let wanted = asked.borrow_and_update().wanted.clone();
        let store = grounds.borrow().store.clone();
        let begun = Instant::now();
        let looked = tokio::select! {
            looked = patiently(&store, looker.look(&wanted), &tell) => looked,
            changed = asked.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let heard = match looked {
            Ok(look) => Heard::Look(Box::new(look)),
            Err(error) => {
                let mut why = error.to_string();
                if let StoreError::OutOfReach(_) = error {
                    // Connections that are kept do not know why there is none; one that is made for it does.
                    if let Ok(Err(error)) = timeout(SOON, store.reach()).await {
                        why = error.to_string();
                    }
                    if let Ok(store) = Store::open_existing(settings.store.url.expose()).await
                        && let Ok(ground) = rules::ground_on(&settings, store)
                    {
                        looker = Looker::new(ground.clone());
                        grounds.send_replace(ground);
                    }
                }
                Heard::Trouble(why)
            }
        };
        if tell.send(heard).await.is_err() {
            return;
        }
        // However slow it is, it has most of its time for others.
        let pause = every.max((begun.elapsed() * SHARE).min(SELDOM));
        tokio::select! {
            () = sleep(pause) => {}
            changed = asked.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// Waits for the store, and says so where it is slow, with what is in the way.
async fn patiently<T>(
    store: &Store,
    looking: impl Future<Output = Result<T, StoreError>>,
    tell: &mpsc::Sender<Heard>,
) -> Result<T, StoreError> {
    let mut looking = std::pin::pin!(looking);
    if let Ok(looked) = timeout(SOON, &mut looking).await {
        return looked;
    }
    let reached = tokio::select! {
        looked = &mut looking => return looked,
        reached = timeout(SOON, store.reach()) => reached,
    };
    let why = match reached {
        Ok(Err(why)) => why.to_string(),
        _ => format!(
            "the store has not answered for {} s: {}",
            SOON.as_secs(),
            store.address()
        ),
    };
    let _ = tell.send(Heard::Trouble(why)).await;
    timeout(PATIENCE, &mut looking).await.unwrap_or_else(|_| {
        let waited = (SOON + PATIENCE).as_secs();
        Err(StoreError::OutOfReach(format!(
            "no answer within {waited} s"
        )))
    })
}
