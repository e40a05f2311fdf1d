//! Rules that make several ops of a [`Graph`] one. A rule a function; the fused op is an op like any other, with the bits of
//! those that it replaces. Only [`Graph::with_folded_batch_norms`] rounds otherwise: its convolutions have other weights.

use std::sync::Arc;

use tensor::{Element, Shape, ops};

use crate::graph::{AnyOp, Graph, Node, Source};

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

    /// The graph with every normalization by given statistics applied by the convolution before it, if that is all that reads the
    /// convolution: the same function, by other weights, for inference.
    #[must_use]
    pub fn with_folded_batch_norms(mut self) -> Self {
        let mut index = 0;
        while index < self.nodes.len() {
            self = batch_norm_into_conv2d(self, index);
            index += 1;
        }
        self.without_unread()
    }

    /// The nodes that the output depends on, and the input.
    fn without_unread(self) -> Self {
        let readers = self.readers();
        // One more for what reads the output.
        let mut read = vec![true; self.nodes.len() + 1];
        for index in (0..self.nodes.len()).rev() {
            let is_read = readers[index].iter().any(|&reader| read[reader]);
            read[index] = is_read || self.nodes[index].is_input();
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

/// With s = gamma / sqrt(variance + eps), batch norm(conv2d(x, w, b)) is conv2d(x, w s, (b - mean) s + beta), s taken for each
/// output channel. The new weights are ops of the graph on its parameters.
fn batch_norm_into_conv2d<T: Element>(graph: Graph<T>, index: usize) -> Graph<T> {
    let Some(eps) = graph.nodes[index].op::<ops::BatchNorm2d>().map(|op| op.eps) else { return graph };
    let &[convolution, gamma, beta, mean, variance] = &graph.nodes[index].inputs[..] else { return graph };
    let Some(&op) = graph.nodes[convolution].op::<ops::Conv2d>() else { return graph };
    if op.relu || graph.readers()[convolution] != [index] {
        return graph;
    }
    let inputs = graph.nodes[convolution].inputs.clone();
    let (channels, path) = (graph.nodes[gamma].shape, graph.nodes[convolution].path.clone());
    let weight = graph.nodes[inputs[1]].shape;
    let mut added = Vec::new();
    let mut add = |op: Arc<dyn AnyOp<T>>, inputs: &[usize], shape| {
        added.push(Node { source: Source::Op(op), inputs: inputs.to_vec(), shape, path: path.clone() });
        index + added.len() - 1
    };
    let factor = add(Arc::new(ops::Rsqrt { eps }), &[variance], channels);
    let scale = add(Arc::new(ops::Mul), &[gamma, factor], channels);
    let of_channels = Shape::from([channels[0], 1, 1, 1]);
    let by_channel = add(Arc::new(ops::Reshape { shape: of_channels }), &[scale], of_channels);
    let scaled = add(Arc::new(ops::Mul), &[inputs[1], by_channel], weight);
    let mut shift = add(Arc::new(ops::Scale { factor: -1.0 }), &[mean], channels);
    if let Some(&bias) = inputs.get(2) {
        shift = add(Arc::new(ops::Add), &[bias, shift], channels);
    }
    let shift = add(Arc::new(ops::Mul), &[shift, scale], channels);
    let shift = add(Arc::new(ops::Add), &[shift, beta], channels);
    let more = added.len();
    // What comes after moves by the new nodes; they stand before the normalization, which becomes the convolution.
    let moved = |node: usize| if node >= index { node + more } else { node };
    let output = moved(graph.output);
    let mut nodes = graph.nodes;
    for node in &mut nodes[index..] {
        node.inputs.iter_mut().for_each(|input| *input = moved(*input));
    }
    nodes[index].source = Source::Op(Arc::new(op));
    nodes[index].inputs = vec![inputs[0], scaled, shift];
    nodes[index].path = path;
    nodes.splice(index..index, added);
    Graph { nodes, output }
}

/// ReLU and maximum change places: max pool(relu(x)) is the pooling with `relu`.
fn relu_into_max_pool<T: Element>(graph: &mut Graph<T>) {
    let readers = graph.readers();
    for pool in 0..graph.nodes.len() {
        let Some(&op) = graph.nodes[pool].op::<ops::MaxPool2d>() else { continue };
        let relu = graph.nodes[pool].inputs[0];
        if !op.relu && graph.nodes[relu].op::<ops::Relu>().is_some() && readers[relu] == [pool] {
            graph.nodes[pool].source = Source::Op(Arc::new(ops::MaxPool2d { relu: true, ..op }));
            graph.nodes[pool].inputs = graph.nodes[relu].inputs.clone();
        }
    }
}

/// relu(conv2d(x)) is the convolution with `relu`.
fn relu_into_conv2d<T: Element>(graph: &mut Graph<T>) {
    let readers = graph.readers();
    for relu in 0..graph.nodes.len() {
        if graph.nodes[relu].op::<ops::Relu>().is_none() {
            continue;
        }
        let before = graph.nodes[relu].inputs[0];
        let Some(&op) = graph.nodes[before].op::<ops::Conv2d>() else { continue };
        // A pooling may have taken the ReLU, which nobody reads then.
        if !op.relu && !readers[relu].is_empty() && readers[before] == [relu] {
            let convolution = graph.nodes[before].clone();
            let source = Source::Op(Arc::new(ops::Conv2d { relu: true, ..op }) as Arc<_>);
            graph.nodes[relu] = Node { source, shape: graph.nodes[relu].shape, ..convolution };
        }
    }
}

/// A convolution and the 1x1 convolutions that alone read it, one after the other, are one op. All of them have biases.
fn convolutions_into_mlp_conv<T: Element>(graph: &mut Graph<T>) {
    let readers = graph.readers();
    for first in 0..graph.nodes.len() {
        let mut chain = vec![first];
        let mut last = first;
        if with_bias(graph, first).is_none() {
            continue;
        }
        while let [next] = readers[last][..]
            && graph.nodes.get(next).is_some_and(|node| node.inputs[0] == last)
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

/// Tells whether each output pixel is made of the input pixel in its place alone.
fn is_pointwise<T: Element>(graph: &Graph<T>, index: usize, op: ops::Conv2d) -> bool {
    let weight = graph.nodes[graph.nodes[index].inputs[1]].shape;
    weight[2..] == [1, 1] && op.stride == [1, 1] && op.padding == [0, 0]
}
