// A random linear map from few numbers to many that needs no stored matrix. Deliberately not: drawing the signs, the permutation and the normals.
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>The tensors of a Fastfood map; all [N], N a power of two.</summary>
/// <param name="Signs">f32, +1 or -1.</param>
/// <param name="Permutation">i32, each of 0 to N - 1 once; not checked on every call.</param>
/// <param name="Gauss">f32, standard normal.</param>
public readonly record struct FastfoodTensors(Tensor Signs, Tensor Permutation, Tensor Gauss);

/// <summary>The map y = scale H G P H B z, cut to n elements.</summary>
/// <remarks>
/// Forward   u = H B pad(z);   v_i = G_i u[perm_i];   y = scale (H v)[0..n)
/// Backward  the adjoint, H being symmetric:   v = H pad(scale dy);   u[perm_i] = G_i v_i;   dz = (B H u)[0..d)
/// Shapes    z, dz: [rows, d];  y, dy: [rows, n];  work: [rows, 2 N], overwritten;  d &lt;= N, n &lt;= N.
/// Numerics  float; as WalshHadamard, twice.
/// Source    Le, Sarlos and Smola 2013; Li et al. 2018 and Aghajanyan et al. 2021 for its use as a random subspace.
/// </remarks>
public static partial class FastfoodProjection
{
    /// <summary>y from z.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="z">f32 [rows, d].</param>
    /// <param name="map">The map's tensors, [N].</param>
    /// <param name="work">f32 [rows, 2 N], overwritten.</param>
    /// <param name="y">f32 [rows, n], overwritten.</param>
    /// <param name="rows">1 or more.</param>
    /// <param name="d">1 to N.</param>
    /// <param name="n">1 to N.</param>
    /// <param name="scale">Factor of the map.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device, or N is no power of two.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Forward(ComputeDevice device, Tensor z, in FastfoodTensors map, Tensor work, Tensor y, int rows, int d, int n, float scale) =>
        Run("FastfoodProjection.Forward", device, z, nameof(z), map, work, y, nameof(y), rows, d, n, scale, backward: false);

    /// <summary>dz from dy.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="dy">f32 [rows, n].</param>
    /// <param name="map">The map's tensors, [N].</param>
    /// <param name="work">f32 [rows, 2 N], overwritten.</param>
    /// <param name="dz">f32 [rows, d], overwritten.</param>
    /// <param name="rows">1 or more.</param>
    /// <param name="d">1 to N.</param>
    /// <param name="n">1 to N.</param>
    /// <param name="scale">Factor of the map.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device, or N is no power of two.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Backward(ComputeDevice device, Tensor dy, in FastfoodTensors map, Tensor work, Tensor dz, int rows, int d, int n, float scale) =>
        Run("FastfoodProjection.Backward", device, dz, nameof(dz), map, work, dy, nameof(dy), rows, d, n, scale, backward: true);

    private static unsafe void Run(
        string op, ComputeDevice device, Tensor narrow, string narrowName, in FastfoodTensors map, Tensor work, Tensor wide, string wideName, int rows, int d, int n, float scale, bool backward)
    {
        long padded = map.Gauss.Elements;
        Require.Dim(op, rows, nameof(rows));
        if (padded < 1 || (padded & (padded - 1)) != 0)
            throw new ArgumentException($"{op}: the map has {padded} elements, expected a power of two.", nameof(map));
        Require.Range(op, d, nameof(d), 1, padded);
        Require.Range(op, n, nameof(n), 1, padded);
        Require.Shape(op, device, narrow, narrowName, DType.F32, "[rows, d]", rows, d);
        Require.Shape(op, device, wide, wideName, DType.F32, "[rows, n]", rows, n);
        Require.Shape(op, device, map.Signs, nameof(map.Signs), DType.F32, "[N]", padded);
        Require.Shape(op, device, map.Permutation, nameof(map.Permutation), DType.I32, "[N]", padded);
        Require.Shape(op, device, map.Gauss, nameof(map.Gauss), DType.F32, "[N]", padded);
        Require.Shape(op, device, work, nameof(work), DType.F32, "[rows, 2 N]", rows, 2 * padded);
        using OpScope trace = OpTrace.Enter(op, rows, d, n);
#if ILGPU
        if (device is IlgpuDevice gpu)
        {
            Ilgpu.Run(gpu, narrow, map, work, wide, rows, d, n, scale, backward);
            return;
        }
#endif
        if (device is not CpuDevice cpu)
            throw Require.NoKernel(op, device);
        CpuRows.Run(cpu, rows, 2 * padded * (1 + long.Log2(padded)), new Kernel
        {
            Narrow = (float*)narrow.Address,
            Wide = (float*)wide.Address,
            Work = (float*)work.Address,
            Signs = (float*)map.Signs.Address,
            Gauss = (float*)map.Gauss.Address,
            Permutation = (int*)map.Permutation.Address,
            Padded = padded,
            D = d,
            N = n,
            Scale = scale,
            Backward = backward,
        });
    }

    private unsafe struct Kernel : IRowKernel
    {
        public float* Narrow, Wide, Work, Signs, Gauss;
        public int* Permutation;
        public long Padded;
        public int D, N;
        public float Scale;
        public bool Backward;

        [MethodImpl(Jit.Loop)]
        public readonly void Rows<V>(long first, long end)
            where V : unmanaged, ISimd<V>
        {
            for (long row = first; row < end; row++)
            {
                float* u = Work + row * 2 * Padded, v = u + Padded, narrow = Narrow + row * D, wide = Wide + row * N;
                if (Backward)
                    RowBackward<V>(u, v, wide, narrow);
                else
                    RowForward<V>(u, v, narrow, wide);
            }
        }

        [MethodImpl(Jit.Loop)]
        private readonly void RowForward<V>(float* u, float* v, float* z, float* y)
            where V : unmanaged, ISimd<V>
        {
            new Span<float>(u + D, (int)(Padded - D)).Clear();
            for (int i = 0; i < D; i++)
                u[i] = z[i] * Signs[i];
            WalshHadamard.Row<V>(u, Padded);
            for (long i = 0; i < Padded; i++)
                v[i] = Gauss[i] * u[Permutation[i]];
            WalshHadamard.Row<V>(v, Padded);
            for (int i = 0; i < N; i++)
                y[i] = Scale * v[i];
        }

        [MethodImpl(Jit.Loop)]
        private readonly void RowBackward<V>(float* u, float* v, float* dy, float* dz)
            where V : unmanaged, ISimd<V>
        {
            // forward: y = scale (H v)[0..n), so: v = H pad(scale dy).
            new Span<float>(v + N, (int)(Padded - N)).Clear();
            for (int i = 0; i < N; i++)
                v[i] = Scale * dy[i];
            WalshHadamard.Row<V>(v, Padded);
            // forward: v_i = G_i u[perm_i], so: each u gets the one v that read it.
            for (long i = 0; i < Padded; i++)
                u[Permutation[i]] = Gauss[i] * v[i];
            WalshHadamard.Row<V>(u, Padded);
            // forward: u = H B pad(z), so: dz = (B H u)[0..d).
            for (int i = 0; i < D; i++)
                dz[i] = u[i] * Signs[i];
        }
    }
}
