"""From SVG text to pixels, by resvg. The only module of the drawing that needs a third party."""

import resvg_py


def rasterise(svg: str, size_px: int) -> bytes:
    """Render a square SVG document.

    Pixels may differ in the last bits between machines: compare texts or embeddings, never PNG bytes.

    Args:
        svg: A document as `draw` writes it.
        size_px: Width and height of the picture.

    Returns:
        A PNG file of `size_px` × `size_px` pixels.

    Raises:
        ValueError: `size_px` is not positive, or the text is not an SVG document.
    """
    if size_px < 1:
        raise ValueError(f"a picture needs at least one pixel, got size_px={size_px}")
    # The drawings hold no text; scanning the machine's fonts would only cost time.
    return bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size_px, height=size_px, skip_system_fonts=True))
