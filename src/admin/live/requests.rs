//! How many requests each route had in the last seconds, and how many of their responses were errors of the server.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::metrics::RequestFigure;

/// The window of the figures, in reports: there is one each second.
const REPORTS: usize = 10;
/// With fewer responses, some errors are not yet a problem of the route.
const MIN_RESPONSES: u64 = 10;
/// The most routes that are listed: those with the most errors come first.
const MAX_ROUTES: usize = 30;

/// The responses in the window. Fed once for each report.
#[derive(Debug, Default)]
pub(super) struct RequestWindow(VecDeque<(Instant, BTreeMap<String, RouteResponses>)>);

/// The responses of a route: since its beginning, or in the window.
#[derive(Clone, Copy, Debug, Default)]
struct RouteResponses {
    all: u64,
    errors: u64,
}

impl RequestWindow {
    /// Adds the current figures. Returns the routes that had requests in the window, and the problems among them.
    pub(super) fn feed(&mut self, now: Instant, figures: &[RequestFigure]) -> (Value, Vec<Value>) {
        let mut routes: BTreeMap<String, RouteResponses> = BTreeMap::new();
        for figure in figures {
            let route = routes.entry(figure.route.clone()).or_default();
            route.all += figure.responses;
            route.errors += if figure.status == "5xx" { figure.responses } else { 0 };
        }
        self.0.push_back((now, routes.clone()));
        if self.0.len() > REPORTS + 1 {
            self.0.pop_front();
        }
        let (from, before) = self.0.front().expect("one was pushed");
        let seconds = (now - *from).as_secs_f64();
        let in_window = |(route, responses): (String, RouteResponses)| {
            let before = before.get(&route).copied().unwrap_or_default();
            let all = responses.all.saturating_sub(before.all);
            let errors = responses.errors.saturating_sub(before.errors);
            (all > 0 && seconds > 0.0).then_some((route, RouteResponses { all, errors }))
        };
        let mut busy: Vec<_> = routes.into_iter().filter_map(in_window).collect();
        busy.sort_by_key(|(_, responses)| std::cmp::Reverse((responses.errors, responses.all)));
        let problems = busy.iter().filter(|(_, responses)| responses.is_problem());
        let problems = problems.map(|(route, RouteResponses { all, errors })| {
            let detail = format!(
                "{errors} of {all} responses in the last {seconds:.0} s were 5xx: look at its backend, and at the log of \
                 the application"
            );
            json!({"about": format!("route {route}"), "detail": detail})
        });
        let problems = problems.collect();
        let list = busy.iter().take(MAX_ROUTES).map(|(route, RouteResponses { all, errors })| {
            json!({"route": route, "rate": as_float(*all) / seconds, "errors": as_float(*errors) / as_float(*all)})
        });
        (list.collect(), problems)
    }
}

impl RouteResponses {
    /// Whether most of the responses are errors.
    fn is_problem(&self) -> bool {
        self.all >= MIN_RESPONSES && self.errors * 2 > self.all
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of seconds are far below 2^52")]
fn as_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::RequestWindow;
    use crate::metrics::RequestFigure;

    fn figure(route: &str, status: &str, responses: u64) -> RequestFigure {
        RequestFigure { route: route.into(), status: status.into(), responses }
    }

    #[test]
    fn a_route_whose_responses_are_mostly_errors_is_a_problem_while_they_are() {
        let (mut window, start) = (RequestWindow::default(), Instant::now());
        let mut at = |second, good, bad| {
            let figures =
                [figure("/a", "2xx", good), figure("/a", "5xx", bad), figure("/b", "2xx", 7)];
            window.feed(start + Duration::from_secs(second), &figures)
        };
        // What was before the page was opened is not of the last seconds.
        let (routes, problems) = at(0, 1000, 1000);
        assert_eq!((routes.as_array().map(Vec::len), problems.len()), (Some(0), 0));
        let (routes, problems) = at(5, 1001, 1008);
        assert_eq!(routes.as_array().map(Vec::len), Some(1), "/b had none: {routes}");
        assert_eq!((&routes[0]["route"], routes[0]["rate"].as_f64()), (&"/a".into(), Some(1.8)));
        assert!(problems.is_empty(), "few responses: {problems:?}");
        let (routes, problems) = at(6, 1001, 1019);
        assert_eq!(routes[0]["errors"].as_f64(), Some(0.95));
        assert_eq!(problems[0]["about"], "route /a");
        let detail = problems[0]["detail"].as_str().expect("a text");
        assert!(detail.starts_with("19 of 20 responses in the last 6 s were 5xx"), "{detail}");
        for second in 7..30 {
            let (_, problems) = at(second, 1001 + second, 1019);
            assert_eq!(problems.is_empty(), second >= 15, "{second}: {problems:?}");
        }
    }
}
