//! Whether a value fits a field: the table of types, literals and operators.

use regex::RegexBuilder;

use super::check::{Checker, Described, Left, relation};
use super::diagnose::Span;
use super::limit;
use super::refusal;
use super::resolve::{Scope, is_outside};
use super::schema::Kind;
use super::syntax::{Operand, Operator, Shift, Spanned, Value};
use super::tree::{self, Needle, Relation, Test};
use super::value::{self, Address, Grain, Network, NoNetwork, Number, Scalar};

type Fitted = Option<(Test, bool)>;

impl Checker<'_> {
    /// The test that an operator and its right side make of a field, and whether it is negated.
    pub fn fit(
        &mut self,
        left: &Left,
        operator: Spanned<Operator>,
        right: &Operand,
        scope: &Scope,
    ) -> Fitted {
        let source = self.source;
        let kind = left.field.kind().clone();
        let name = left.span.of(&source.text);
        let described = Described::of(left, name, operator.node.word(), scope, &kind);
        if let Some(diagnostic) = refusal::right_side(source, &described, operator.span, right) {
            return self.refuse(diagnostic);
        }
        if matches!(right.node, Value::None) && !operator.node.is_equality() {
            let diagnostic =
                refusal::none_has_no_order(source, &described, operator, right.span, scope);
            return self.refuse(diagnostic);
        }
        let whole = matches!(kind, Kind::One(_)) || kind.is_many();
        if whole {
            let is_none = matches!(right.node, Value::None) && operator.node.is_equality();
            if !is_none {
                let diagnostic = match &kind {
                    Kind::List(_) => {
                        refusal::list_compared(source, &described, operator.span, right)
                    }
                    _ => refusal::related_compared(
                        source,
                        &described,
                        operator.node.word(),
                        right,
                        &self.schema_behind(&left.field),
                    ),
                };
                return self.refuse(diagnostic);
            }
        }
        match operator.node {
            Operator::Contains { negated } if matches!(kind, Kind::Date | Kind::DateTime) => {
                let within = self.within(&described, right)?;
                Some((within, negated))
            }
            Operator::Contains { negated }
            | Operator::StartsWith { negated }
            | Operator::EndsWith { negated }
            | Operator::Matches { negated } => {
                if !matches!(kind, Kind::Text | Kind::Dynamic) {
                    let diagnostic = refusal::operator_does_not_fit(
                        source,
                        &described,
                        operator.node.word(),
                        operator.span,
                        right,
                    );
                    return self.refuse(diagnostic);
                }
                let test = self.text_test(operator, right, &described)?;
                Some((test, negated))
            }
            comparison => {
                let orderable = !matches!(kind, Kind::Bool | Kind::Ip)
                    && !matches!((&kind, &right.node), (Kind::Dynamic, Value::Bool(_)));
                if comparison.is_ordering() && !orderable {
                    let diagnostic = refusal::operator_does_not_fit(
                        source,
                        &described,
                        comparison.word(),
                        operator.span,
                        right,
                    );
                    return self.refuse(diagnostic);
                }
                let constant = self.constant(right, &described)?;
                // `!=` is the complement of `=`, also where a path leads to several values.
                Some(match relation(comparison) {
                    Relation::Unequal => (Test::Compare(Relation::Equal, constant), true),
                    relation => (Test::Compare(relation, constant), false),
                })
            }
        }
    }

    fn text_test(
        &mut self,
        operator: Spanned<Operator>,
        right: &Operand,
        described: &Described<'_>,
    ) -> Option<Test> {
        let text_only = Described {
            kind: &Kind::Text,
            ..*described
        };
        if let Operator::Matches { .. } = operator.node {
            let Value::Text(pattern) = &right.node else {
                return self.refuse(
                    self.source
                        .error(
                            "Q219",
                            "`matches` takes a regular expression in quotes",
                            right.span,
                            refusal::describe(&right.node),
                        )
                        .help("write `name matches \"^www[0-9]+\"`"),
                );
            };
            return self.pattern(pattern, right.span);
        }
        let needle = match &right.node {
            Value::Text(text) => Needle::Folded(text.to_ascii_lowercase()),
            Value::Parameter(_) | Value::Path(_) => {
                Needle::Outside(self.constant(right, &text_only)?)
            }
            _ => {
                let diagnostic =
                    refusal::needs_a_string(self.source, described, operator.node, right);
                return self.refuse(diagnostic);
            }
        };
        Some(match operator.node {
            Operator::StartsWith { .. } => Test::StartsWith(needle),
            Operator::EndsWith { .. } => Test::EndsWith(needle),
            _ => Test::Contains(needle),
        })
    }

    fn pattern(&mut self, pattern: &str, span: Span) -> Option<Test> {
        if pattern.len() > limit::PATTERN {
            return self.refuse(self.source.error(
                "Q311",
                format!(
                    "the regular expression is {} bytes long; the limit is {}",
                    pattern.len(),
                    limit::PATTERN
                ),
                span,
                "crosses the limit",
            ));
        }
        match RegexBuilder::new(pattern)
            .size_limit(limit::PATTERN_COMPILED)
            .build()
        {
            Ok(regex) => Some(Test::Matches(regex)),
            Err(regex::Error::CompiledTooBig(_)) => self.refuse(
                self.source
                    .error(
                        "Q311",
                        format!(
                            "the compiled regular expression is too large; the limit is {} bytes",
                            limit::PATTERN_COMPILED
                        ),
                        span,
                        "crosses the limit",
                    )
                    .note("counted repeats of large classes cost most: `\\d` takes every Unicode digit, `[0-9]` ten"),
            ),
            Err(error) => {
                let diagnostic =
                    refusal::not_a_pattern(self.source, pattern, span, &error.to_string());
                self.refuse(diagnostic)
            }
        }
    }

    /// `~` on dates: within a year, month, day, minute or second.
    fn within(&mut self, described: &Described<'_>, right: &Operand) -> Option<Test> {
        let Value::Text(text) = &right.node else {
            let diagnostic = refusal::wrong_type(self.source, described, right);
            return self.refuse(diagnostic);
        };
        let is_date = matches!(described.kind, Kind::Date);
        let read = value::stretch(text).and_then(|stretch| {
            if is_date && stretch.grain > Grain::Day {
                Err("a date has no time of day".to_owned())
            } else {
                Ok(stretch)
            }
        });
        match read {
            Ok(stretch) => Some(Test::Within(stretch.first, stretch.last)),
            Err(why) => {
                let diagnostic = refusal::not_a_date(self.source, right.span, &why)
                    .note("`~` also takes \"YYYY\" and \"YYYY-MM\", and means within");
                self.refuse(diagnostic)
            }
        }
    }

    /// `field in (…)`.
    pub fn among(
        &mut self,
        left: &Left,
        negated: bool,
        operator: Span,
        list: &Spanned<Vec<Operand>>,
        scope: &Scope,
    ) -> Option<Test> {
        let source = self.source;
        let kind = left.field.kind().clone();
        let name = left.span.of(&source.text);
        let word = if negated { "not in" } else { "in" };
        let described = Described::of(left, name, word, scope, &kind);
        if list.node.is_empty() {
            let diagnostic = refusal::empty_list(source, list.span, negated, scope.names.noun());
            return self.refuse(diagnostic);
        }
        let only_none = list
            .node
            .iter()
            .all(|item| matches!(item.node, Value::None));
        if (matches!(kind, Kind::One(_)) || kind.is_many()) && !only_none {
            let diagnostic = match &kind {
                Kind::List(_) => refusal::list_among(source, &described, operator, list.span),
                _ => {
                    let first = list
                        .node
                        .iter()
                        .find(|item| !matches!(item.node, Value::None));
                    refusal::related_compared(
                        source,
                        &described,
                        word,
                        first?,
                        &self.schema_behind(&left.field),
                    )
                }
            };
            return self.refuse(diagnostic);
        }
        let mut items = Vec::new();
        let mut sound = true;
        for item in &list.node {
            if let Some(diagnostic) = refusal::right_side(source, &described, operator, item) {
                self.found.push(diagnostic);
                sound = false;
                continue;
            }
            match self.constant(item, &described) {
                Some(constant) => items.push(constant),
                None => sound = false,
            }
        }
        sound.then_some(Test::Among(items))
    }

    /// `field in net(…)`, `field in $list`, `field in trigger.list`.
    pub fn among_operand(
        &mut self,
        left: &Left,
        negated: bool,
        operator: Span,
        right: &Operand,
        scope: &Scope,
    ) -> Option<Test> {
        let source = self.source;
        let kind = left.field.kind().clone();
        let name = left.span.of(&source.text);
        let word = if negated { "not in" } else { "in" };
        let described = Described::of(left, name, word, scope, &kind);
        if matches!(right.node, Value::Broken) {
            return None;
        }
        if let Value::Call {
            name: function,
            arguments,
        } = &right.node
            && function.node == "net"
        {
            if !matches!(kind, Kind::Ip | Kind::Dynamic) {
                let diagnostic = refusal::operator_does_not_fit(
                    source,
                    &described,
                    "in net(…)",
                    operator,
                    right,
                );
                return self.refuse(diagnostic);
            }
            return self.networks(arguments, right.span);
        }
        let list = match &right.node {
            Value::Parameter(parameter) => {
                let kind = self.parameter(parameter, right.span)?;
                Some((kind, tree::Operand::Parameter(parameter.clone())))
            }
            Value::Path(segments) if is_outside(segments) => {
                let (field, operand) = self.outside(segments, right.span)?;
                Some((field.path.kind, operand))
            }
            _ => None,
        };
        match list {
            Some((Kind::Dynamic, operand)) => Some(Test::AmongOutside(operand)),
            Some((Kind::List(element), operand)) => {
                if !meets(&kind, &element, &right.node) {
                    let diagnostic = refusal::wrong_kind(source, &described, right, &element);
                    return self.refuse(diagnostic);
                }
                Some(Test::AmongOutside(operand))
            }
            Some((other, _)) => {
                let diagnostic =
                    refusal::in_needs_a_list(source, &described, right, &other.phrase());
                self.refuse(diagnostic)
            }
            None => {
                let described_value = refusal::describe(&right.node);
                let diagnostic =
                    refusal::in_needs_a_list(source, &described, right, &described_value);
                self.refuse(diagnostic)
            }
        }
    }

    fn networks(&mut self, arguments: &[Operand], span: Span) -> Option<Test> {
        if arguments.is_empty() {
            return self.refuse(
                self.source
                    .error("Q216", "not a network", span, "nothing in it")
                    .help("write `net(\"10.0.0.0/8\")`"),
            );
        }
        let before = self.networks;
        self.networks += arguments.len();
        if before <= limit::NETWORKS && self.networks > limit::NETWORKS {
            let crossing = arguments.get(limit::NETWORKS - before);
            let place = crossing.map_or(span, |argument| argument.span);
            return self.refuse(self.source.error(
                "Q312",
                format!(
                    "the query has {} networks; the limit is {}",
                    self.networks,
                    limit::NETWORKS
                ),
                place,
                "crosses the limit",
            ));
        }
        let mut networks = Vec::new();
        let mut sound = true;
        for argument in arguments {
            let outcome = match &argument.node {
                Value::Text(text) => Network::parse(text),
                _ => Err(NoNetwork::Address),
            };
            match outcome {
                Ok(network) => networks.push(network),
                Err(why) => {
                    sound = false;
                    let diagnostic = refusal::not_a_network(self.source, argument, &why);
                    self.found.push(diagnostic);
                }
            }
        }
        sound.then_some(Test::InNetworks(networks))
    }

    /// A value that must be a constant of that kind.
    pub fn constant(
        &mut self,
        operand: &Operand,
        described: &Described<'_>,
    ) -> Option<tree::Operand> {
        let source = self.source;
        let wrong = |checker: &mut Self| {
            let diagnostic = refusal::wrong_type(source, described, operand);
            checker.refuse(diagnostic)
        };
        let scalar = match (&operand.node, described.kind) {
            (Value::Broken, _) => return None,
            (Value::None, _) => {
                if !described.nullable {
                    let diagnostic = refusal::never_none(source, described, operand.span);
                    return self.refuse(diagnostic);
                }
                Scalar::None
            }
            (Value::Bool(truth), Kind::Bool | Kind::Dynamic) => Scalar::Bool(*truth),
            (Value::Int(number), Kind::Int | Kind::Float | Kind::Dynamic) => {
                Scalar::Number(Number::Int(i128::from(*number)))
            }
            (Value::Decimal(number), Kind::Float | Kind::Dynamic) => {
                Scalar::Number(Number::Float(*number))
            }
            (Value::Text(text), Kind::Text | Kind::Dynamic) => Scalar::Text(text.clone().into()),
            (Value::Text(text), Kind::Date | Kind::DateTime) => {
                match date_literal(text, matches!(described.kind, Kind::Date)) {
                    Ok(moment) => Scalar::Instant(moment),
                    Err(why) => {
                        let diagnostic = refusal::not_a_date(source, operand.span, &why);
                        return self.refuse(diagnostic);
                    }
                }
            }
            (Value::Text(text), Kind::Ip) => match Address::parse(text) {
                Some(address) => Scalar::Address(address),
                None => {
                    let diagnostic = refusal::not_an_address(source, described, operand.span, text);
                    return self.refuse(diagnostic);
                }
            },
            (Value::Parameter(name), kind) => {
                let found = self.parameter(name, operand.span)?;
                if !meets(kind, &found, &operand.node) {
                    let diagnostic = refusal::wrong_kind(source, described, operand, &found);
                    return self.refuse(diagnostic);
                }
                return Some(tree::Operand::Parameter(name.clone()));
            }
            (Value::Path(segments), kind) if is_outside(segments) => {
                let (field, outside) = self.outside(segments, operand.span)?;
                if field.spread || !meets(kind, field.kind(), &operand.node) {
                    let diagnostic = refusal::wrong_kind(source, described, operand, field.kind());
                    return self.refuse(diagnostic);
                }
                return Some(outside);
            }
            (Value::Path(segments), _) => {
                let diagnostic = refusal::field_as_value(source, described, operand.span, segments);
                return self.refuse(diagnostic);
            }
            (Value::Call { name, arguments }, kind) => {
                let clock = self.clock(name, arguments, operand.span, 0)?;
                if matches!(kind, Kind::Date | Kind::DateTime | Kind::Dynamic) {
                    return Some(clock);
                }
                return wrong(self);
            }
            (Value::Shifted { base, shifts }, kind) => {
                let clock = self.shifted(base, shifts)?;
                if matches!(kind, Kind::Date | Kind::DateTime | Kind::Dynamic) {
                    return Some(clock);
                }
                return wrong(self);
            }
            _ => return wrong(self),
        };
        Some(tree::Operand::Literal(scalar))
    }

    fn parameter(&mut self, name: &str, span: Span) -> Option<Kind> {
        let parameters = self.context.parameters;
        let Some(kind) = parameters.kind(name) else {
            let diagnostic = self.source.error(
                "Q204",
                format!("unknown parameter `${name}`"),
                span,
                "not declared",
            );
            return self.refuse(refusal::unknown(
                diagnostic,
                span,
                name,
                parameters.names(),
                "parameters",
                &|near| format!("${near}"),
            ));
        };
        self.needs.parameters.insert(name.to_owned());
        Some(kind.clone())
    }

    fn clock(
        &mut self,
        name: &Spanned<String>,
        arguments: &[Operand],
        span: Span,
        shift: i64,
    ) -> Option<tree::Operand> {
        let midnight = match name.node.as_str() {
            "today" => true,
            "now" => false,
            _ => {
                let diagnostic = refusal::no_such_function(self.source, name, span);
                return self.refuse(diagnostic);
            }
        };
        if let Some(first) = arguments.first() {
            return self.refuse(self.source.error(
                "Q121",
                format!("`{}` takes nothing in its parentheses", name.node),
                first.span,
                "not expected",
            ));
        }
        self.needs.clock = true;
        Some(tree::Operand::Clock { midnight, shift })
    }

    fn shifted(&mut self, base: &Operand, shifts: &[Spanned<Shift>]) -> Option<tree::Operand> {
        let Value::Call { name, arguments } = &base.node else {
            let first = shifts.first().map_or(base.span, |shift| shift.span);
            let diagnostic = refusal::not_shiftable(self.source, base, first);
            return self.refuse(diagnostic);
        };
        let mut total: i64 = 0;
        for shift in shifts {
            let place = shift.node.duration.span;
            let seconds: i64 = match shift.node.unit.as_str() {
                "s" => 1,
                "m" => 60,
                "h" => 3_600,
                "d" => 86_400,
                "w" => 604_800,
                _ => {
                    let diagnostic = refusal::no_unit(self.source, base.span, shift);
                    return self.refuse(diagnostic);
                }
            };
            let signed = shift.node.count.parse::<i64>().ok().and_then(|count| {
                let micros = count.checked_mul(seconds)?.checked_mul(1_000_000)?;
                total.checked_add(if shift.node.forward { micros } else { -micros })
            });
            match signed {
                Some(sum) => total = sum,
                None => {
                    return self.refuse(self.source.error(
                        "Q118",
                        "the number is too large",
                        place,
                        "longer than time itself",
                    ));
                }
            }
        }
        self.clock(name, arguments, base.span, total)
    }

    fn schema_behind(&self, field: &super::resolve::Resolved) -> super::schema::Schema {
        let owner = field.owner.as_ref().unwrap_or(self.context.schema);
        match field.kind() {
            Kind::Records(record) => record.clone(),
            Kind::One(object_type)
            | Kind::Many(object_type)
            | Kind::Referrers { object_type, .. } => owner.related(object_type),
            _ => owner.clone(),
        }
    }
}

fn date_literal(text: &str, date_only: bool) -> Result<crate::moment::Moment, String> {
    let stretch = value::stretch(text)?;
    match stretch.grain {
        Grain::Year | Grain::Month => Err("not a whole date".to_owned()),
        Grain::Minute | Grain::Second if date_only => Err("a date has no time of day".to_owned()),
        _ => Ok(stretch.first),
    }
}

/// Whether a constant from outside can equal a value of the field. A string parameter is read like a string literal.
fn meets(field: &Kind, constant: &Kind, value: &Value) -> bool {
    match (field, constant) {
        (Kind::Dynamic, constant) => !constant.is_many() && !matches!(constant, Kind::One(_)),
        (_, Kind::Dynamic)
        | (Kind::Text, Kind::Text)
        | (Kind::Int | Kind::Float, Kind::Int | Kind::Float)
        | (Kind::Bool, Kind::Bool)
        | (Kind::Date | Kind::DateTime, Kind::Date | Kind::DateTime)
        | (Kind::Ip, Kind::Ip) => true,
        (Kind::Date | Kind::DateTime | Kind::Ip, Kind::Text) => {
            matches!(value, Value::Parameter(_))
        }
        _ => false,
    }
}
