//! Source locations: which nodes of the user's model an op comes from.
//!
//! A location is a list of model nodes. An imported op has one; fusing two ops joins their lists, so every step of the
//! compiled program still names the nodes it computes.

use crate::id::LocId;
use id_arena::Arena;

/// A node of the user's model.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Node {
    /// The node's own name.
    pub name: Box<str>,
    /// The node's op type in the model's vocabulary.
    pub op_type: Box<str>,
}

/// Interned locations.
#[derive(Clone, Debug)]
pub struct LocTable {
    locs: Arena<Box<[Node]>, LocId>,
    index: std::collections::HashMap<Box<[Node]>, LocId>,
}

impl Default for LocTable {
    fn default() -> LocTable {
        let mut table = LocTable { locs: Arena::new(), index: std::collections::HashMap::new() };
        table.intern(Box::new([]));
        table
    }
}

impl LocTable {
    /// The location that says nothing.
    pub fn unknown(&self) -> LocId {
        self.index[&[] as &[Node]]
    }

    /// The location of one model node.
    pub fn node(&mut self, name: &str, op_type: &str) -> LocId {
        self.intern(Box::new([Node { name: name.into(), op_type: op_type.into() }]))
    }

    /// The location of a list of nodes.
    pub fn intern(&mut self, nodes: Box<[Node]>) -> LocId {
        if let Some(&id) = self.index.get(&nodes) {
            return id;
        }
        let id = self.locs.alloc(nodes.clone());
        self.index.insert(nodes, id);
        id
    }

    /// The nodes of all `locs`, each once, in order of first appearance.
    pub fn fuse(&mut self, locs: &[LocId]) -> LocId {
        let mut nodes: Vec<Node> = Vec::new();
        for &loc in locs {
            for node in self.nodes(loc) {
                if !nodes.contains(node) {
                    nodes.push(node.clone());
                }
            }
        }
        self.intern(nodes.into())
    }

    /// The nodes of a location.
    pub fn nodes(&self, loc: LocId) -> &[Node] {
        &self.locs[loc]
    }
}
