//! Rules that make several ops of a [`Graph`] one. A rule a function; the fused op is an op like any other, with the bits of
//! those that it replaces.

use std::sync::Arc;

use tensor::{Element, ops};

use crate::graph::{Graph, Node, Source};

impl<T: Element> Graph<T> {
    /// The graph with every ReLU applied by a neighbor: by the max pooling after it, so that nothing of the size before the
    /// pooling is kept for the backward pass; or else by the convolution before it, to its output while that is in registers.
    #[must_use]
    pub fn with_fused_relus(mut self) -> Self {
        relu_into_max_pool(&mut self);
        relu_into_conv2d(&mut self);
        self.without_unread()
    }

    /// The graph with all rules applied: [`Graph::with_fused_relus`], and a convolution and the 1x1 convolutions after it as one
    /// [`MlpConv`](ops::MlpConv), whose maps stay in the cache.
    #[must_use]
    pub fn fused(self) -> Self {
        let mut graph = self.with_fused_relus();
        convolutions_into_mlp_conv(&mut graph);
        graph.without_unread()
    }

    /// The nodes that the output depends on, and the input.
    fn without_unread(self) -> Self {
        let mut read = vec![false; self.nodes.len()];
        read[self.output] = true;
        for index in (0..self.nodes.len()).rev() {
            if read[index] {
                for &input in &self.nodes[index].inputs {
                    read[input] = true;
                }
            }
            read[index] |= matches!(self.nodes[index].source, Source::Input);
        }
        let places: Vec<usize> =
            (0..read.len()).map(|index| read[..index].iter().filter(|&&read| read).count()).collect();
        let kept = self.nodes.into_iter().zip(&read).filter(|&(_, &read)| read);
        let renumbered = kept.map(|(node, _)| {
            let inputs = node.inputs.iter().map(|&input| places[input]).collect();
            Node { inputs, ..node }
        });
        Self { nodes: renumbered.collect(), output: places[self.output] }
    }
}

/// ReLU and maximum change places: max pool(relu(x)) is the pooling with `relu`.
fn relu_into_max_pool<T: Element>(graph: &mut Graph<T>) {
    for pool in 0..graph.nodes.len() {
        let Some(&op) = graph.nodes[pool].op::<ops::MaxPool2d>() else { continue };
        let relu = graph.nodes[pool].inputs[0];
        if !op.relu && graph.nodes[relu].op::<ops::Relu>().is_some() && graph.only_reader(relu) == Some(pool)
        {
            graph.nodes[pool].source = Source::Op(Arc::new(ops::MaxPool2d { relu: true, ..op }));
            graph.nodes[pool].inputs = graph.nodes[relu].inputs.clone();
        }
    }
}

/// relu(conv2d(x)) is the convolution with `relu`.
fn relu_into_conv2d<T: Element>(graph: &mut Graph<T>) {
    for relu in 0..graph.nodes.len() {
        if graph.nodes[relu].op::<ops::Relu>().is_none() {
            continue;
        }
        let before = graph.nodes[relu].inputs[0];
        let Some(&op) = graph.nodes[before].op::<ops::Conv2d>() else { continue };
        // A ReLU that a pooling took is not read any more.
        let reads = graph.nodes.iter().any(|node| node.inputs.contains(&relu)) || graph.output == relu;
        if !op.relu && reads && graph.only_reader(before) == Some(relu) {
            let convolution = graph.nodes[before].clone();
            let source = Source::Op(Arc::new(ops::Conv2d { relu: true, ..op }) as Arc<_>);
            graph.nodes[relu] = Node { source, shape: graph.nodes[relu].shape, ..convolution };
        }
    }
}

/// A convolution and the 1x1 convolutions that alone read it, one after the other, are one op. All of them have biases.
fn convolutions_into_mlp_conv<T: Element>(graph: &mut Graph<T>) {
    for first in 0..graph.nodes.len() {
        let mut chain = vec![first];
        let mut last = first;
        if with_bias(graph, first).is_none() || taken(graph, first) {
            continue;
        }
        while let Some(next) = graph.only_reader(last)
            && graph.nodes[next].inputs[0] == last
            && with_bias(graph, next).is_some_and(|op| is_pointwise(graph, next, op))
        {
            chain.push(next);
            last = next;
        }
        if chain.len() < 2 {
            continue;
        }
        let layers = chain.iter().filter_map(|&index| with_bias(graph, index)).collect();
        let parameters = chain.iter().flat_map(|&index| graph.nodes[index].inputs[1..].to_vec());
        let inputs = [graph.nodes[first].inputs[0]].into_iter().chain(parameters).collect();
        let path = graph.nodes[first].path.clone();
        let source = Source::Op(Arc::new(ops::MlpConv { layers }) as Arc<_>);
        graph.nodes[last] = Node { source, inputs, path, shape: graph.nodes[last].shape };
    }
}

/// The convolution of node `index`, if it is one and has a bias.
fn with_bias<T: Element>(graph: &Graph<T>, index: usize) -> Option<ops::Conv2d> {
    graph.nodes[index].op::<ops::Conv2d>().filter(|_| graph.nodes[index].inputs.len() == 3).copied()
}

/// Tells whether nobody reads node `index`: an op that was made part of another.
fn taken<T: Element>(graph: &Graph<T>, index: usize) -> bool {
    graph.output != index && !graph.nodes.iter().any(|node| node.inputs.contains(&index))
}

/// Tells whether each output pixel is made of the input pixel in its place alone.
fn is_pointwise<T: Element>(graph: &Graph<T>, index: usize, op: ops::Conv2d) -> bool {
    let weight = graph.nodes[graph.nodes[index].inputs[1]].shape;
    weight[2..] == [1, 1] && op.stride == [1, 1] && op.padding == [0, 0]
}
