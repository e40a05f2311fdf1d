//! The end of a Network in Network: the global average of the class maps, or a fully connected layer in its place.

use tensor::Element;

use super::Network;
use crate::names::choices;
use crate::nn::{AdaptiveAvgPool2d, Dropout, Flatten, Linear, Sequential};

choices! {
    /// The part behind the last block, which turns its N x `classes` x H x W class maps into N x `classes` logits.
    ///
    /// Section 4.6 of Lin, Chen and Yan (2014) asks what global average pooling is worth by putting a fully connected layer in
    /// its place "while the other parts of the model remain the same", once with dropout before it and once without. Both are
    /// linear in the class maps: the average has a fixed matrix, `1 / (H W)` from a class's own map and 0 elsewhere, and the
    /// fully connected layer learns all of `classes * (classes * H * W)` weights. So the blocks before are the same, ReLU on the
    /// class maps included, and a difference in the result is the head's.
    ///
    /// The price of the fully connected head: its weights belong to one image size.
    "head" enum Head {
        /// Puts the head behind blocks that end in class maps of `features` numbers in all.
        pub(super) fn behind<T: Element>(blocks: Sequential<T>, features: usize, network: &Network) -> Sequential<T>;

        /// The mean of each class map.
        Gap = "gap" => blocks.with(AdaptiveAvgPool2d::GLOBAL).with(Flatten),
        /// All class maps as one vector, then a fully connected layer.
        Fc = "fc" => blocks.with(Flatten).with(Linear::new(features, network.classes)),
        /// As fc, with dropout before the fully connected layer.
        FcDropout = "fc-dropout" => {
            let dropped = blocks.with(Flatten).with(Dropout { p: network.dropout });
            dropped.with(Linear::new(features, network.classes))
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Model;
    use crate::nn::{output_shape, parameter_count, parameters};
    use crate::summary::layers;

    fn built(model: Model, side: usize, head: Head) -> Sequential<f32> {
        Network { head: Some(head), ..Network::new(model, [1, side, side], 10) }.build().unwrap()
    }

    #[test]
    fn only_what_is_behind_the_blocks_differs() {
        for (model, side, maps) in [(Model::Nin, 224, 8), (Model::NinD2l, 224, 5), (Model::NinCifar, 28, 7)] {
            let average = built(model, side, Head::Gap);
            let own = parameters(&average);
            for head in [Head::Fc, Head::FcDropout] {
                let network = built(model, side, head);
                assert_eq!(*output_shape(&network, [2, 1, side, side].into()).unwrap(), [2, 10]);
                let all = parameters(&network);
                let behind = 10 * 10 * maps * maps + 10;
                assert_eq!(parameter_count(&network), parameter_count(&average) + behind, "{model}, {head}");
                for ((name, left), (other, right)) in own.iter().zip(&all) {
                    assert_eq!((name, left.value.shape()), (other, right.value.shape()), "{model}, {head}");
                }
                let dropouts = |network: &Sequential<f32>| {
                    let all = layers(network, [1, 1, side, side].into()).unwrap();
                    all.iter().filter(|layer| layer.kind.starts_with("Dropout")).count()
                };
                let more = usize::from(head == Head::FcDropout);
                assert_eq!(dropouts(&network), dropouts(&average) + more, "{model}, {head}");
            }
        }
    }

    #[test]
    fn a_fully_connected_head_belongs_to_one_size() {
        let network = built(Model::NinCifar, 28, Head::Fc);
        let error = output_shape(&network, [1, 1, 32, 32].into()).unwrap_err().to_string();
        assert!(error.contains("Linear(490, 10)") && error.contains("640"), "{error}");
    }
}
