//! Which projects reach a ledger: globs over working folders. Pure text.

/// Include and exclude patterns over the working folder of a session. Without patterns everything is admitted.
///
/// `*` and `?` stay within a name, `**` crosses `/`. A pattern with a `/` matches a folder and all that is below it; one
/// without matches a name anywhere in the path. A session that does not say where it ran is judged by the name of
/// its project's folder, where every sign but letters and digits is a `-`; such a match can be too wide.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only these, where there are any.
    pub include: Vec<String>,
    /// Never these, whatever is included.
    pub exclude: Vec<String>,
}

impl Filter {
    pub(crate) fn admits_all(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    pub(crate) fn admits(&self, project: Option<&str>, folder: &str) -> bool {
        let listed = |patterns: &[String]| {
            patterns.iter().any(|pattern| match project {
                Some(project) => matches_path(pattern, project),
                None => matches_folder(pattern, folder),
            })
        };
        (self.include.is_empty() || listed(&self.include)) && !listed(&self.exclude)
    }
}

fn matches_path(pattern: &str, path: &str) -> bool {
    let (pattern, path) = (slashes(pattern), slashes(path));
    if !pattern.contains('/') {
        return path.split('/').any(|name| glob(pattern.as_bytes(), name.as_bytes()));
    }
    let ends = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0).chain([path.len()]);
    ends.into_iter().any(|end| glob(pattern.as_bytes(), &path.as_bytes()[..end]))
}

/// Matches where only the folder's name is known: both sides lose what the name does not have.
fn matches_folder(pattern: &str, folder: &str) -> bool {
    let path = slashes(pattern);
    let mut wide: String = path
        .chars()
        .map(|sign| if sign.is_ascii_alphanumeric() || matches!(sign, '*' | '?') { sign } else { '-' })
        .collect();
    if !path.contains('/') {
        wide.insert_str(0, "**-");
    }
    let wide = wide.replace('*', "**");
    let below = format!("{wide}-**");
    glob(wide.as_bytes(), folder.as_bytes()) || glob(below.as_bytes(), folder.as_bytes())
}

fn slashes(path: &str) -> String {
    let path = path.replace('\\', "/");
    match path.trim_end_matches('/') {
        "" => path,
        trimmed => trimmed.to_owned(),
    }
}

/// Matches bytes, so that `?` takes one byte. Goes back to the last star only, and to the last double star when that
/// fails: time is bounded by the product of the lengths.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut done) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    let mut double: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(at), text.get(done)) {
            (Some(b'*'), _) => {
                let stars = pattern[at..].iter().take_while(|sign| **sign == b'*').count();
                at += stars;
                if stars > 1 {
                    (double, star) = (Some((at, done)), None);
                } else {
                    star = Some((at, done));
                }
                continue;
            }
            (None, None) => return true,
            (Some(b'?'), Some(sign)) if *sign != b'/' => {
                (at, done) = (at + 1, done + 1);
                continue;
            }
            (Some(expected), Some(sign)) if expected == sign => {
                (at, done) = (at + 1, done + 1);
                continue;
            }
            _ => {}
        }
        if let Some((after, from)) =
            star.filter(|(_, from)| text.get(*from).is_some_and(|sign| *sign != b'/'))
        {
            (at, done, star) = (after, from + 1, Some((after, from + 1)));
        } else if let Some((after, from)) = double.filter(|(_, from)| *from < text.len()) {
            (at, done, star, double) = (after, from + 1, None, Some((after, from + 1)));
        } else {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(include: &[&str], exclude: &[&str], project: &str) -> bool {
        let list = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        Filter { include: list(include), exclude: list(exclude) }.admits(Some(project), "")
    }

    #[test]
    fn a_path_matches_itself_and_what_is_below() {
        assert!(admits(&["/home/me/work"], &[], "/home/me/work"));
        assert!(admits(&["/home/me/work/"], &[], "/home/me/work/a/b"));
        assert!(!admits(&["/home/me/work"], &[], "/home/me/workshop"));
        assert!(!admits(&["/home/me/work"], &[], "/home/me"));
        assert!(admits(&["/"], &[], "/"));
    }

    #[test]
    fn stars_stop_at_slashes_unless_doubled() {
        assert!(admits(&["/home/*/work"], &[], "/home/me/work"));
        assert!(!admits(&["/home/*/work"], &[], "/home/me/too/work"));
        assert!(admits(&["/home/**/work"], &[], "/home/me/too/work/x"));
        assert!(admits(&["/**/a*b/c"], &[], "/x/aab/aXb/c"));
        assert!(admits(&["/home/m?"], &[], "/home/me"));
        assert!(!admits(&["/home/m?"], &[], "/home/m/"));
    }

    #[test]
    fn a_bare_name_matches_anywhere_and_exclude_wins() {
        assert!(admits(&["proj*"], &[], "/a/project-x/src"));
        assert!(!admits(&["proj*"], &["src"], "/a/project-x/src"));
        assert!(admits(&[], &["secret"], "/a/b"));
        assert!(!admits(
            &[],
            &["D:\\secret"],
            "d:\\secret".to_uppercase().replace("SECRET", "secret").as_str()
        ));
    }

    #[test]
    fn without_a_working_folder_the_folder_name_decides() {
        let exclude = |pattern: &str| Filter { include: vec![], exclude: vec![pattern.to_owned()] };
        assert!(!exclude("/home/me/secret").admits(None, "-home-me-secret"));
        assert!(!exclude("/home/me/secret").admits(None, "-home-me-secret-sub"));
        assert!(!exclude("secret").admits(None, "-home-me-secret"));
        assert!(!exclude("/home/*/secret").admits(None, "-home-me-secret"));
        assert!(exclude("/home/me/secret").admits(None, "-home-me-other"));
    }

    #[test]
    fn a_pattern_of_many_stars_ends() {
        assert!(!glob("*a".repeat(200).as_bytes(), "a".repeat(150).as_bytes()));
        assert!(!glob("**a".repeat(200).as_bytes(), "a".repeat(150).as_bytes()));
    }
}
