//! What somebody may do with a ledger. Where rights come from is the server's affair.

/// A permission that a token gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Append batches, and ask what is there already; not what it says.
    Append,
    /// Read events and rows.
    Read,
    /// Everything, and what changes what is there: erase, compact, check, events that arrive erased.
    Admin,
}

impl Scope {
    /// All of them, by name.
    pub const ALL: [Self; 3] = [Self::Append, Self::Read, Self::Admin];

    /// Returns the stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }

    /// Returns the scope of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights {
    append: bool,
    read: bool,
    admin: bool,
}

impl Rights {
    /// Everything.
    pub const ALL: Self = Self { append: true, read: true, admin: true };

    /// The rights that some scopes give.
    pub fn of(scopes: &[Scope]) -> Self {
        let admin = scopes.contains(&Scope::Admin);
        Self {
            append: admin || scopes.contains(&Scope::Append),
            read: admin || scopes.contains(&Scope::Read),
            admin,
        }
    }

    /// Writes them as the header of an answer does: names with commas between.
    pub fn text(self) -> String {
        let allowed: Vec<&str> =
            Scope::ALL.into_iter().filter(|scope| self.allow(*scope)).map(Scope::name).collect();
        allowed.join(",")
    }

    /// Reads what [`Rights::text`] writes; names that this program does not know give nothing.
    pub fn parse(text: &str) -> Self {
        Self::of(&text.split(',').filter_map(Scope::of_name).collect::<Vec<_>>())
    }

    /// Whether a scope is among them.
    pub fn allow(self, scope: Scope) -> bool {
        match scope {
            Scope::Append => self.append,
            Scope::Read => self.read,
            Scope::Admin => self.admin,
        }
    }

    /// Whether there is any.
    pub fn any(self) -> bool {
        self.append || self.read || self.admin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_read_as_they_are_written() {
        for (scopes, text) in [
            (&[][..], ""),
            (&[Scope::Append], "append"),
            (&[Scope::Read, Scope::Append], "append,read"),
            (&[Scope::Admin], "append,read,admin"),
        ] {
            let rights = Rights::of(scopes);
            assert_eq!(rights.text(), text);
            assert_eq!(Rights::parse(text), rights);
        }
        assert_eq!(Rights::parse("read,fly"), Rights::of(&[Scope::Read]));
    }
}
