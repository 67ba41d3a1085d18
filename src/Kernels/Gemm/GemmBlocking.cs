// Block sizes of the packed matrix product and how a product is cut into pieces of work. No arithmetic on matrices here.
namespace IptNative.Kernels.Ops;

/// <summary>Sizes measured on Zen 4 and Zen 5 (L1 32-48 KiB, L2 1 MiB a core).</summary>
internal static class GemmBlocking
{
    /// <summary>
    /// Steps of k between two visits to C. C comes from L3 or memory, so the fewer the better. Little is gained where nothing else runs: at T5 base the
    /// medians of five steps in turn were 2.20 s with 768 and 2.23 s with 256 (Zen 5), but their ranges 2.16 to 2.33 and 2.18 to 2.55.
    /// A panel of B (96 KiB) is then more than L1, and does not need to be in it: a tile reads 128 bytes of it in 12 cycles.
    /// </summary>
    public const int Kc = 768;

    /// <summary>Columns of B packed at once for all threads: 768 x 768 floats lie in L3, from where each piece of rows reads them once.</summary>
    public const int Nc = 768;

    /// <summary>
    /// Rows of A at most that one piece of work packs: 144 x 768 floats leave half of L2 to the panel of B and to C. At T5 base's shapes the means of six runs in
    /// turn were 84.5 % of the peak with 144 and 82.0 % with 240, three quarters of L2 (Zen 5); 1024 or 2048 columns of B at once made no difference.
    /// </summary>
    public const int MostRows = 144;

    /// <summary>Rows of A at least of a piece of work, where there are so many: four whole panels.</summary>
    public const int LeastRows = 48;

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
    public const long BlockFloats = (long)Kc * MostRows;

    /// <summary>Floats of each thread's panel of B; the widest micro-kernel takes 32 columns.</summary>
    public const long PanelFloats = (long)Kc * 32;

    /// <summary>Rounded-up quotient.</summary>
    public static int Pieces(int whole, int part) => (int)(((long)whole + part - 1) / part);

    /// <summary>Size of equal parts, rounded up to a multiple of <paramref name="unit"/>.</summary>
    public static int EvenPart(int whole, int parts, int unit) => Pieces(Pieces(whole, parts), unit) * unit;
}
