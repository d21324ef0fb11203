"""What an encoder is called: a person's word where there is one, and its architecture where that says more."""

from memory import encoder_name


def test_a_directory_is_known_by_its_name_and_a_tag_says_its_architecture() -> None:
    own, known = {"architecture": "custom-385b26aec22b"}, {"architecture": "ViT-B-32"}
    assert encoder_name(own, {"model": "tiny_clip"}) == "tiny_clip (custom-385b26aec22b)"
    assert encoder_name(known, {"model": "ViT-B-32/openai"}) == "ViT-B-32/openai"
    assert encoder_name(known, {"model": "our-clip"}) == "our-clip (ViT-B-32)"
    before_names_were_kept = {"device": "cpu"}
    assert encoder_name(own, before_names_were_kept) == "a model of one's own (custom-385b26aec22b)"
    assert encoder_name(known, before_names_were_kept) == "ViT-B-32"
