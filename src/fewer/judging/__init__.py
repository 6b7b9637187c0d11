"""`fewer judge`: whether a set of images is as good as another one, made from the same seeds.

A is the reference: what you have. B is the candidate: a faster engine, a cache, a quantised model, fewer steps. Image by
image they come from the same seeds, so that a difference within a pair is of B's making. Four answers can come out:

    not worse    It is shown that B does no harm: each figure below lies within its margin, with its whole interval.
    worse        It is shown of at least one figure that it lies beyond its margin, with its whole interval.
    better       As "not worse", and B is shown to be nearer to the data than A, or better by a metric of yours. Without
                 one of these nothing says which way is better, so B can be "not worse" at best.
    cannot tell  Neither is shown. The judgement says how many images would be enough, if the figures stay as they are.

What decides, with a margin of 5 %:

    other or broken   Share of B's images that are another image than A's, or have a fault: at most 5 %.
    distribution      How far B as a whole is from A as a whole, as if all images were moved alike, in standard
                      deviations of A's images: at most 0.05.
    diversity         How different B's images are from each other, over how different A's are: at least 0.95.
    detail            Local contrast of B's images over A's, which blur lowers and noise raises: 0.952 to 1.05.

With real images beside (`--data`) likeness to them counts, and not to A: only faults count in the first line, and the distance
to the data, which may be at most 0.05 larger than A's, stands for distribution and detail. A metric is one line more: its mean
may be at most 5 % worse than A's.

**Intervals.** All of them hold together in 95 of 100 judgements: with k lines each has a confidence of 1 - 0.05 / k
(Bonferroni). So sets of equal quality are called worse in at most 5 of 100 judgements, in practice in far fewer. With no
fault at all, 99 pairs are the fewest that show a share of at most 5 %.

**Another image.** Images are compared as small pictures (32 x 32), and by `--features` if given; a distance of 1 is that of
two images of A. B_i is another image where it is as far from A_i as the nearest 5 % of A's other images are (of the same
prompt, where prompts or sub-folders tell), or where it is at most half as far from another A_j as from its own. Below 0.35
images are the same to the eye, so that references that are nearly equal are not taken for each other.

**Faults** of single images are named whatever the answer is, also one in a thousand: one colour or black where A is not,
another size, twice the detail (noise, garbage) or half of it (blur), a quarter of all values black or white where A's are
far from it, the image of another pair (swapped), one that repeats another, one that is moved by some pixels.
"""

from fewer.judging.record import Judgement
from fewer.judging.run import judge

__all__ = ["Judgement", "judge"]
