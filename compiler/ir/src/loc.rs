//! Source locations: which nodes of the user's model an op comes from.
//!
//! A location is a list of model nodes. A node is its id, which an import gives in the order of the model, so that the
//! same model has the same ids whenever it is imported; names are for people, and two nodes may have the same. An imported
//! op has one; fusing two ops joins their lists, so every step of the compiled program still tells the nodes it computes.
//! A fused location refers to those that it was fused from: a list that grows with every fusion would take quadratic memory.

use crate::id::{LocId, NodeId};
use id_arena::Arena;
use std::collections::{HashMap, HashSet};

/// What a node of the user's model is called.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Node {
    /// The node's own name.
    pub name: Box<str>,
    /// The node's op type in the model's vocabulary.
    pub op_type: Box<str>,
    /// How many nodes of the same name and type come before it in the model: what tells it apart in text.
    pub twin: u32,
}

/// A location.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Loc {
    Node(NodeId),
    /// Two or more; none for the location that says nothing.
    Fused(Box<[LocId]>),
}

/// Interned locations.
#[derive(Clone, Debug)]
pub struct LocTable {
    nodes: Arena<Node, NodeId>,
    by_name: HashMap<Node, NodeId>,
    /// How many twins are taken.
    twins: HashMap<(Box<str>, Box<str>), u32>,
    locs: Arena<Loc, LocId>,
    index: HashMap<Loc, LocId>,
    unknown: LocId,
}

impl Default for LocTable {
    fn default() -> LocTable {
        let (mut locs, nothing) = (Arena::new(), Loc::Fused(Box::new([])));
        let unknown = locs.alloc(nothing.clone());
        let index = HashMap::from([(nothing, unknown)]);
        LocTable { nodes: Arena::new(), by_name: HashMap::new(), twins: HashMap::new(), locs, index, unknown }
    }
}

impl LocTable {
    /// The location that says nothing.
    pub fn unknown(&self) -> LocId {
        self.unknown
    }

    /// The location of the first model node with this name and type.
    pub fn node(&mut self, name: &str, op_type: &str) -> LocId {
        self.twin(name, op_type, 0)
    }

    /// The next node of the model, whatever its name and type.
    pub fn add_node(&mut self, name: &str, op_type: &str) -> NodeId {
        let taken = self.twins.get(&(name.into(), op_type.into())).copied().unwrap_or(0);
        self.node_id(name, op_type, taken)
    }

    /// The location of a node.
    pub fn at(&mut self, node: NodeId) -> LocId {
        self.intern(Loc::Node(node))
    }

    /// What a node of this table is called.
    pub fn get(&self, node: NodeId) -> &Node {
        &self.nodes[node]
    }

    /// The location of the model node with this name and type behind `twin` others.
    pub fn twin(&mut self, name: &str, op_type: &str, twin: u32) -> LocId {
        let node = self.node_id(name, op_type, twin);
        self.at(node)
    }

    fn node_id(&mut self, name: &str, op_type: &str, twin: u32) -> NodeId {
        let taken = self.twins.entry((name.into(), op_type.into())).or_default();
        *taken = twin.saturating_add(1).max(*taken);
        let node = Node { name: name.into(), op_type: op_type.into(), twin };
        match self.by_name.get(&node) {
            Some(&id) => id,
            None => {
                let id = self.nodes.alloc(node.clone());
                self.by_name.insert(node, id);
                id
            }
        }
    }

    /// The nodes of all `locs`, each once, in order of first appearance.
    pub fn fuse(&mut self, locs: &[LocId]) -> LocId {
        let mut parts: Vec<LocId> = Vec::with_capacity(locs.len());
        let mut seen = HashSet::with_capacity(locs.len());
        for &loc in locs.iter().filter(|&&loc| loc != self.unknown) {
            // What the part before was fused from, it names already.
            let within =
                parts.last().is_some_and(|&last| matches!(&self.locs[last], Loc::Fused(l) if l.contains(&loc)));
            if !within && seen.insert(loc) {
                parts.push(loc);
            }
        }
        match parts[..] {
            [] => self.unknown,
            [only] => only,
            _ => self.intern(Loc::Fused(parts.into())),
        }
    }

    fn intern(&mut self, loc: Loc) -> LocId {
        if let Some(&id) = self.index.get(&loc) {
            return id;
        }
        let id = self.locs.alloc(loc.clone());
        self.index.insert(loc, id);
        id
    }

    /// What the nodes of a location are called, each once. Takes time in proportion to the fusions that made it.
    pub fn nodes(&self, loc: LocId) -> Vec<&Node> {
        self.node_ids(loc).into_iter().map(|id| &self.nodes[id]).collect()
    }

    /// The nodes of a location, each once, in the order in which they were fused.
    pub fn node_ids(&self, loc: LocId) -> Vec<NodeId> {
        match &self.locs[loc] {
            Loc::Node(id) => vec![*id],
            Loc::Fused(parts) if parts.is_empty() => Vec::new(),
            Loc::Fused(_) => {
                let (mut seen, mut open, mut nodes) = (HashSet::new(), vec![loc], Vec::new());
                while let Some(loc) = open.pop() {
                    match &self.locs[loc] {
                        _ if !seen.insert(loc) => {}
                        Loc::Node(id) => nodes.push(*id),
                        Loc::Fused(parts) => open.extend(parts.iter().rev()),
                    }
                }
                nodes
            }
        }
    }
}
