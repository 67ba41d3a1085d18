// Block sizes of the packed matrix product and how a product is cut into pieces of work. No arithmetic on matrices here.
namespace IptNative.Kernels.Ops;

/// <summary>Sizes measured on Zen 4 and Zen 5 (L1 32-48 KiB, L2 1 MiB a core).</summary>
internal static class GemmBlocking
{
    /// <summary>Steps of k between two visits to C: a panel of B (256 x 32 floats) is 32 KiB and stays in L1.</summary>
    public const int Kc = 256;

    /// <summary>Columns of B packed at once for all threads: 256 x 768 floats lie in each core's L2.</summary>
    public const int Nc = 768;

    /// <summary>Rows of A packed for one piece of work when B is packed for all: four whole panels, small enough to share out evenly.</summary>
    public const int SharedRows = 48;

    /// <summary>Rows of A at most when a piece packs both operands itself: 240 x 256 floats are a quarter of L2.</summary>
    public const int PrivateRows = 240;

    /// <summary>Columns at least of such a piece: each repeats the packing of A.</summary>
    public const int PrivateColumns = 128;

    /// <summary>An A larger than this leaves the caches before the next piece of columns reads it: lm_head's input gradient, 64 x 32128. One piece a thread then.</summary>
    public const long CachedFloats = 512 * 1024;

    /// <summary>Below this a second thread costs more than it brings (a hand-over is a microsecond or two).</summary>
    public const double SerialFlops = 400_000;

    /// <summary>Above this per batch entry, packing B once for all rows pays for its two hand-overs.</summary>
    public const double SharedFlops = 20e6;

    /// <summary>Pieces per thread that keep the threads busy to the end when one is slower.</summary>
    public const int PiecesPerWorker = 4;

    /// <summary>Floats of the block of B that all threads share.</summary>
    public const long SharedFloats = (long)Kc * Nc;

    /// <summary>Floats of each thread's block of A.</summary>
    public const long BlockFloats = (long)Kc * PrivateRows;

    /// <summary>Floats of each thread's panel of B; the widest micro-kernel takes 32 columns.</summary>
    public const long PanelFloats = (long)Kc * 32;

    /// <summary>Rounded-up quotient.</summary>
    public static int Pieces(int whole, int part) => (int)(((long)whole + part - 1) / part);

    /// <summary>Size of equal parts, rounded up to a multiple of <paramref name="unit"/>.</summary>
    public static int EvenPart(int whole, int parts, int unit) => Pieces(Pieces(whole, parts), unit) * unit;
}
