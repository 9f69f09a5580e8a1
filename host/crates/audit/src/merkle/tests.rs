//! The tree beside another implementation of the same hashing.

use ct_merkle::mem_backed_tree::MemoryBackedTree;

use super::*;

/// The inputs and roots that implementations of Certificate Transparency test each other with.
const LEAVES: [&[u8]; 8] = [
    b"",
    b"\x00",
    b"\x10",
    b"\x20\x21",
    b"\x30\x31",
    b"\x40\x41\x42\x43",
    b"\x50\x51\x52\x53\x54\x55\x56\x57",
    b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
];
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn leaf(number: u64) -> Digest {
    leaf_hash(&number.to_be_bytes())
}

fn tree(size: u64) -> Tree {
    let mut tree = Tree::default();
    (0..size).for_each(|number| tree.push(leaf(number)));
    tree
}

#[test]
fn roots_are_those_of_the_published_vectors() {
    let mut tree = Tree::default();
    assert_eq!(tree.root().to_string(), ROOTS[0]);
    for (record, root) in LEAVES.into_iter().zip(&ROOTS[1..]) {
        tree.push(leaf_hash(record));
        assert_eq!(&tree.root().to_string(), root);
        let again = Tree::from_peaks(tree.size(), tree.peaks().to_vec());
        assert_eq!(again, Some(tree.clone()));
        assert_eq!(Tree::from_peaks(tree.size() * 2 + 1, tree.peaks().to_vec()), None);
    }
}

#[test]
fn roots_and_proofs_are_those_of_another_implementation() {
    let mut other: MemoryBackedTree<sha2::Sha256, [u8; 8]> = MemoryBackedTree::new();
    let mut window = Window::after(Tree::default());
    for size in 1..=70u64 {
        other.push((size - 1).to_be_bytes());
        window.push(leaf(size - 1));
        let root = other.root();
        assert_eq!(tree(size).root().as_bytes(), root.as_bytes().as_slice());
        for index in 0..size {
            let theirs = other.prove_inclusion(usize::try_from(index).unwrap());
            let ours = window.inclusion_proof(index, size).unwrap();
            let bytes: Vec<u8> = ours.iter().flat_map(|node| *node.as_bytes()).collect();
            assert_eq!(theirs.as_bytes(), bytes, "{index} of {size}");
        }
    }
}

#[test]
fn a_proof_needs_nothing_but_the_peaks_of_what_is_gone() {
    for size in 1..=40u64 {
        let root = tree(size).root();
        for gone in 0..size {
            let mut window = Window::after(tree(gone));
            (gone..size).for_each(|number| window.push(leaf(number)));
            for index in gone..size {
                let proof = window.inclusion_proof(index, size).unwrap();
                assert!(verify_inclusion(index, size, &leaf(index), &proof, &root));
            }
            assert_eq!(window.inclusion_proof(size, size), None);
            assert_eq!(window.inclusion_proof(gone, size + 1), None);
            if gone > 0 {
                assert_eq!(window.inclusion_proof(gone - 1, size), None);
            }
        }
    }
}

#[test]
fn a_proof_holds_for_one_leaf_at_one_place_in_one_tree() {
    for size in 1..=20u64 {
        let root = tree(size).root();
        let mut window = Window::after(Tree::default());
        (0..size).for_each(|number| window.push(leaf(number)));
        for index in 0..size {
            let proof = window.inclusion_proof(index, size).unwrap();
            let holds = |at: u64, of: u64, what: &Digest, proof: &[Digest], under: &Digest| {
                verify_inclusion(at, of, what, proof, under)
            };
            assert!(holds(index, size, &leaf(index), &proof, &root));
            assert!(!holds(index, size, &leaf(index + 1), &proof, &root));
            assert!(!holds(index, size, &leaf(index), &proof, &tree(size + 1).root()));
            assert!(!holds(size, size, &leaf(index), &proof, &root));
            for other in (0..size).filter(|other| *other != index) {
                assert!(
                    !holds(other, size, &leaf(index), &proof, &root),
                    "{index} as {other} of {size}"
                );
            }
            let longer: Vec<Digest> = proof.iter().copied().chain([root]).collect();
            assert!(!holds(index, size, &leaf(index), &longer, &root));
            if let Some((_, shorter)) = proof.split_last() {
                assert!(!holds(index, size, &leaf(index), shorter, &root));
            }
        }
    }
}

#[test]
fn a_node_does_not_pass_for_a_leaf() {
    let both: Vec<u8> = [leaf(0), leaf(1)].iter().flat_map(|node| *node.as_bytes()).collect();
    assert_ne!(leaf_hash(&both), tree(2).root());
}
