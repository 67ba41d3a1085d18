// Principal components of few long rows: trained prompts, or intrinsic vectors for a picture. Deliberately over the rows' inner products: a matrix of prompt
// numbers by prompt numbers would be 24 GB at T5-base size.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using MathNet.Numerics.LinearAlgebra;
using MathNet.Numerics.LinearAlgebra.Double;

namespace IptNative.Tuning.Subspaces;

/// <summary>Mean, directions and coordinates of rows along the directions of largest variance.</summary>
/// <remarks>
/// With the centred rows X [rows, n] and X X^T = V S^2 V^T: direction k is X^T v_k / s_k, its standard deviation s_k / sqrt(rows - 1), the rows' coordinates
/// along it s_k v_k. Signs are made definite: the row with the largest coordinate has a positive one.
/// </remarks>
public sealed class PrincipalComponents
{
    private PrincipalComponents(float[] mean, double[] deviations, double[] shares, float[] scaledDirections, double[][] coordinates) =>
        (Mean, Deviations, Shares, ScaledDirections, Coordinates) = (mean, deviations, shares, scaledDirections, coordinates);

    /// <summary>[n].</summary>
    public float[] Mean { get; }

    /// <summary>[components], falling, 0 or more: standard deviations of the rows along the directions.</summary>
    public IReadOnlyList<double> Deviations { get; }

    /// <summary>[components]: each one's share of the whole variance, 0 to 1.</summary>
    public IReadOnlyList<double> Shares { get; }

    /// <summary>[n, components] row-major: directions times their deviation.</summary>
    public float[] ScaledDirections { get; }

    /// <summary>[rows][components]: the rows' coordinates in the rows' units.</summary>
    public IReadOnlyList<double[]> Coordinates { get; }

    /// <summary>Components of rows in host memory.</summary>
    /// <param name="rows">At least two, of one length.</param>
    /// <param name="components">1 to rows - 1; fewer are real where the rows span less (deviation 0).</param>
    /// <returns>The components.</returns>
    /// <exception cref="ArgumentException">Too few rows for so many components, or rows of different lengths.</exception>
    public static PrincipalComponents Fit(IReadOnlyList<float[]> rows, int components)
    {
        ArgumentNullException.ThrowIfNull(rows);
        if (rows.Count == 0 || rows[0].Length == 0 || rows.Any(r => r.Length != rows[0].Length))
            throw new ArgumentException($"principal components: found {rows.Count} rows of lengths {string.Join(", ", rows.Select(r => r.Length).Distinct())}, expected at least two of one length.", nameof(rows));
        using var device = new CpuDevice(1);
        using DeviceBuffer table = device.Allocate(DType.F32, (long)rows.Count * rows[0].Length, "rows");
        for (int i = 0; i < rows.Count; i++)
            table.Tensor.Slice((long)i * rows[0].Length, rows[0].Length).CopyFrom<float>(rows[i]);
        return Fit(device, table.Tensor, rows.Count, rows[0].Length, components);
    }

    internal static PrincipalComponents Fit(ComputeDevice device, Tensor x, int rows, int n, int components)
    {
        if (components < 1 || components >= rows)
            throw new ArgumentException($"principal components: found {components} components of {rows} rows, expected 1 to {rows - 1}.", nameof(components));
        var mean = new float[n];
        var sums = new double[n];
        for (int r = 0; r < rows; r++)
        {
            float[] row = x.Slice((long)r * n, n).ToArray<float>();
            for (int i = 0; i < n; i++)
                sums[i] += row[i];
        }
        for (int i = 0; i < n; i++)
            mean[i] = (float)(sums[i] / rows);
        using DeviceBuffer centred = device.Allocate(DType.F32, (long)rows * n, "centred rows"), offset = device.Allocate(DType.F32, n, "mean");
        offset.Tensor.CopyFrom<float>(mean);
        Elementwise.Copy(device, x, centred.Tensor, (long)rows * n);
        for (int r = 0; r < rows; r++)
            Elementwise.Axpy(device, offset.Tensor, centred.Tensor.Slice((long)r * n, n), n, -1);
        double[] gram = new double[rows * rows];
        GramMatrix.Run(device, centred.Tensor, rows, n, gram);
        for (int i = 0; i < gram.Length; i++)
        {
            if (!double.IsFinite(gram[i]))
                throw new ArgumentException($"principal components: row {i / rows} has a NaN or infinity, expected finite numbers.", nameof(x));
        }

        // The singular values of a symmetric matrix without negative eigenvalues are its eigenvalues, largest first.
        var svd = new DenseMatrix(rows, rows, gram).Svd(computeVectors: true);
        Matrix<double> vectors = svd.U;
        double total = Math.Max(0, svd.S.Sum());
        var deviations = new double[components];
        var shares = new double[components];
        var coordinates = new double[rows][];
        var mixing = new float[rows * components];
        for (int r = 0; r < rows; r++)
            coordinates[r] = new double[components];
        for (int k = 0; k < components; k++)
        {
            double variance = Math.Max(0, svd.S[k]), length = Math.Sqrt(variance);
            int largest = 0;
            for (int r = 1; r < rows; r++)
                largest = Math.Abs(vectors[r, k]) > Math.Abs(vectors[largest, k]) ? r : largest;
            double sign = vectors[largest, k] < 0 ? -1 : 1;
            deviations[k] = length / Math.Sqrt(rows - 1);
            shares[k] = total > 0 ? variance / total : 0;
            for (int r = 0; r < rows; r++)
            {
                coordinates[r][k] = sign * length * vectors[r, k];
                // (X^T v / s) (s / sqrt(rows - 1))
                mixing[r * components + k] = (float)(sign * vectors[r, k] / Math.Sqrt(rows - 1));
            }
        }
        using DeviceBuffer mix = device.Allocate(DType.F32, mixing.Length, "mixing"), directions = device.Allocate(DType.F32, (long)n * components, "directions");
        mix.Tensor.CopyFrom<float>(mixing);
        Gemm.Run(device, new GemmArgs { A = centred.Tensor, TransA = true, B = mix.Tensor, C = directions.Tensor, M = n, N = components, K = rows });
        return new PrincipalComponents(mean, deviations, shares, directions.Tensor.ToArray<float>(), coordinates);
    }
}
