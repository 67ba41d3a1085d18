// Which kernel multiplies on a GPU: NVIDIA's library, ours, or whichever was measured to be faster at a shape. Deliberately not measured on the way: the same
// table gives the same bits again, a stopwatch would not. What measures: ProductTuning.cs.
using System.Globalization;
using IptNative.Kernels.Ops;

namespace IptNative.Kernels.Devices;

/// <summary>What a product's speed depends on.</summary>
/// <param name="M">Rows of C.</param>
/// <param name="N">Columns of C.</param>
/// <param name="K">Length of the sums.</param>
/// <param name="Batches">Products.</param>
/// <param name="TransA">A is stored transposed.</param>
/// <param name="TransB">B is stored transposed.</param>
/// <param name="B">Stored type of B.</param>
/// <param name="Compute">Precision of the operands.</param>
public readonly record struct ProductShape(int M, int N, int K, int Batches, bool TransA, bool TransB, DType B, ComputeType Compute)
{
    internal static ProductShape Of(in GemmArgs args, ComputeDevice device) =>
        new(args.M, args.N, args.K, args.Batches, args.TransA, args.TransB, args.B.DType, args.ComputesIn(device));

    /// <summary>As in the file.</summary>
    /// <returns>For example 912 768 768 1 A B^T f32 F32.</returns>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{M} {N} {K} {Batches} {(TransA ? "A^T" : "A")} {(TransB ? "B^T" : "B")} {B.Name()} {Compute}");
}

/// <summary>One shape, measured.</summary>
/// <param name="Shape">The shape.</param>
/// <param name="LibrarySeconds">Of a call of the library.</param>
/// <param name="OwnSeconds">Of our kernel.</param>
public readonly record struct ProductMeasurement(ProductShape Shape, double LibrarySeconds, double OwnSeconds);

/// <summary>The choice, by shape where it was measured.</summary>
public sealed class ProductTable
{
    /// <summary>The environment variable that overrides the choice: cublas, own, or a file that <see cref="Write"/> made.</summary>
    public const string Variable = "IPTNATIVE_GPU_PRODUCTS";

    private const string Header = "# M N K batches A B stored compute cublas_us own_us";
    private const int Columns = 10;

    private readonly Dictionary<ProductShape, bool> _own = [];
    private readonly bool _elseOwn;

    private ProductTable(bool elseOwn) => _elseOwn = elseOwn;

    /// <summary>The library, wherever it can.</summary>
    public static ProductTable Library { get; } = new(elseOwn: false);

    /// <summary>Our kernels only.</summary>
    public static ProductTable Own { get; } = new(elseOwn: true);

    /// <summary>Reads a choice.</summary>
    /// <param name="text">What the variable holds; null or empty for the library.</param>
    /// <returns>The choice.</returns>
    /// <exception cref="InvalidDataException">It is neither a word nor a table.</exception>
    public static ProductTable Parse(string? text)
    {
        if (string.IsNullOrEmpty(text) || text == "cublas")
            return Library;
        if (text == "own")
            return Own;
        if (!File.Exists(text))
            throw new InvalidDataException($"{Variable}: found '{text}', expected cublas, own, or a file of 'iptnative profile --device cuda --products FILE'.");
        var table = new ProductTable(elseOwn: false);
        string[] lines = File.ReadAllLines(text);
        for (int i = 0; i < lines.Length; i++)
        {
            if (lines[i].Length == 0 || lines[i][0] == '#')
                continue;
            if (Read(lines[i].Split(' ')) is not { } measured)
                throw new InvalidDataException($"{text}: line {i + 1} is '{lines[i]}', expected {Columns} columns: {Header[2..]}. Measure the table again.");
            table._own[measured.Shape] = measured.OwnSeconds < measured.LibrarySeconds;
        }
        return table;
    }

    /// <summary>Writes what was measured, for <see cref="Parse"/>.</summary>
    /// <param name="path">The file.</param>
    /// <param name="measured">Each shape once.</param>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static void Write(string path, IReadOnlyList<ProductMeasurement> measured)
    {
        ArgumentNullException.ThrowIfNull(measured);
        File.WriteAllLines(path, measured.Select(m => string.Create(CultureInfo.InvariantCulture, $"{m.Shape} {m.LibrarySeconds * 1e6:f2} {m.OwnSeconds * 1e6:f2}")).Prepend(Header));
    }

    /// <summary>Whether our kernel is to multiply.</summary>
    /// <param name="shape">What is multiplied; a shape that was not measured is the library's.</param>
    /// <returns>True for ours.</returns>
    public bool PrefersOwn(in ProductShape shape) => _own.TryGetValue(shape, out bool own) ? own : _elseOwn;

    private static ProductMeasurement? Read(string[] columns)
    {
        if (columns.Length != Columns || columns[4] is not ("A" or "A^T") || columns[5] is not ("B" or "B^T") || !Enum.TryParse(columns[6], ignoreCase: true, out DType stored) || !Enum.TryParse(columns[7], out ComputeType compute)
            || !Number(columns[0], out int m) || !Number(columns[1], out int n) || !Number(columns[2], out int k) || !Number(columns[3], out int batches) || !Time(columns[8], out double library) || !Time(columns[9], out double own))
            return null;
        return new ProductMeasurement(new ProductShape(m, n, k, batches, columns[4] == "A^T", columns[5] == "B^T", stored, compute), library, own);

        static bool Number(string text, out int value) => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out value) && value > 0;

        static bool Time(string text, out double value) => double.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out value) && value > 0;
    }
}
