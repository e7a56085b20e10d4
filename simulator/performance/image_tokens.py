"""How many tokens an image becomes on its way from an encoder into a language model."""

from __future__ import annotations

from math import ceil, floor, sqrt


def image_tokens(
    width_px: int,
    height_px: int,
    *,
    patch_px: int = 14,
    merge: int = 2,
    min_tokens: int = 4,
    max_tokens: int = 16384,
) -> int:
    """Return the tokens of an image that is encoded in its own size, Qwen2-VL's way (arXiv:2409.12191, section 2.1).

    Both sides are rounded to multiples of ``patch_px · merge``; every ``merge · merge`` patches become one token. An
    image with more or fewer tokens than allowed is scaled first, its sides rounded down or up. For ``merge`` 1 these
    are the patches of a plain vision transformer. The defaults are those of the published processor.

    Parameters
    ----------
    width_px, height_px
        Size of the image, pixels.
    patch_px
        Side of a patch, pixels.
    merge
        Patches along each side that are folded into a token.
    min_tokens, max_tokens
        Limits to which an image is scaled.
    """
    unit = patch_px * merge
    columns, rows = max(1, round(width_px / unit)), max(1, round(height_px / unit))
    area = width_px * height_px / unit**2
    if columns * rows > max_tokens:
        shrink = sqrt(area / max_tokens)
        return max(1, floor(width_px / shrink / unit)) * max(1, floor(height_px / shrink / unit))
    if columns * rows < min_tokens:
        grow = sqrt(min_tokens / area)
        return ceil(width_px * grow / unit) * ceil(height_px * grow / unit)
    return columns * rows


def tiled_image_tokens(
    width_px: int, height_px: int, *, tile_px: int = 448, patch_px: int = 14, merge: int = 2, max_tiles: int = 12
) -> int:
    """Return the tokens of an image that is cut into square tiles, InternVL's way (arXiv:2404.16821, section 3.3).

    The grid of at most ``max_tiles`` tiles is the one whose aspect ratio is nearest to the image's; of equally near
    ones the largest of which the image fills at least half. With several tiles a thumbnail of the whole is one more.
    Pixel shuffle folds ``merge · merge`` patches of a tile into a token: 256 a tile by default.

    Parameters
    ----------
    width_px, height_px
        Size of the image, pixels.
    tile_px, patch_px
        Sides of a tile and of a patch, pixels.
    merge
        Patches along each side that are folded into a token.
    max_tiles
        Largest number of tiles, the thumbnail not counted.
    """
    aspect = width_px / height_px
    grids = [(c, r) for c in range(1, max_tiles + 1) for r in range(1, max_tiles // c + 1)]
    distance = min(abs(aspect - c / r) for c, r in grids)
    nearest = sorted(c * r for c, r in grids if abs(aspect - c / r) == distance)
    filled = [tiles for tiles in nearest if width_px * height_px > 0.5 * tile_px**2 * tiles]
    tiles = max(filled, default=nearest[0])
    return (tiles + (tiles > 1)) * (tile_px // (patch_px * merge)) ** 2
