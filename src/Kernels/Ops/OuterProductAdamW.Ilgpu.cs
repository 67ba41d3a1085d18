// The fused step on a GPU: a thread makes four rows of one column's gradient, or of four columns where rows begin at multiples of 16 bytes, and updates them at
// once; the gradient is in registers only. Contract: OuterProductAdamW.cs.
using ILGPU;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Ops;

public static partial class OuterProductAdamW
{
    internal static class Ilgpu
    {
        // Each load of right serves four rows: at 16 products the moments' traffic then outweighs the factors'.
        private const int Band = 4;

        public static void Run(
            IlgpuDevice gpu, Tensor left, Tensor right, Tensor m, Tensor v, Tensor p, int count, int rows, int columns, float scale, in AdamWCoefficients coefficients)
        {
            var kernel = new StepKernel
            {
                Left = gpu.View<float>(left),
                Right = gpu.View<float>(right),
                M = gpu.View<float>(m),
                V = gpu.View<float>(v),
                P = gpu.View<float>(p),
                Numbers = AdamWUpdate.Ilgpu.Numbers(coefficients),
                Scale = scale,
                Count = count,
                Rows = rows,
                Columns = columns,
                Quads = GpuRows.Quads(columns, right.Address | m.Address | v.Address | p.Address),
            };
            long pieces = (rows + Band - 1) / Band * (kernel.Quads > 0 ? kernel.Quads : columns);
            gpu.Launch(kernel, gpu.Groups((pieces + gpu.Threads - 1) / gpu.Threads), gpu.Threads);
        }

        internal struct StepKernel : IGpuKernel<StepKernel>
        {
            public ArrayView<float> Left, Right, M, V, P;
            public ElementNumbers Numbers;
            public float Scale;
            public int Count;
            public long Rows, Columns, Quads;

            public static void Run(StepKernel k)
            {
                long width = k.Quads > 0 ? k.Quads : k.Columns, bands = (k.Rows + Band - 1) / Band, stride = (long)Grid.DimX * Group.DimX;
                for (long piece = (long)Grid.IdxX * Group.DimX + Group.IdxX; piece < bands * width; piece += stride)
                {
                    long row = piece / width * Band, at = piece % width;
                    if (k.Quads > 0)
                        QuadBand(k, row, at);
                    else
                        SingleBand(k, row, at);
                }
            }

            private static void QuadBand(StepKernel k, long row, long quad)
            {
                ArrayView<F4> right = k.Right.Cast<F4>();
                F4 a = default, b = default, c = default, d = default;
                for (int i = 0; i < k.Count; i++)
                {
                    F4 x = right[i * k.Quads + quad];
                    a = Add(a, x, LeftAt(k, i, row));
                    b = Add(b, x, LeftAt(k, i, row + 1));
                    c = Add(c, x, LeftAt(k, i, row + 2));
                    d = Add(d, x, LeftAt(k, i, row + 3));
                }
                UpdateQuad(k, row, quad, a);
                UpdateQuad(k, row + 1, quad, b);
                UpdateQuad(k, row + 2, quad, c);
                UpdateQuad(k, row + 3, quad, d);
            }

            private static void SingleBand(StepKernel k, long row, long column)
            {
                float a = 0, b = 0, c = 0, d = 0;
                for (int i = 0; i < k.Count; i++)
                {
                    float x = k.Right[i * k.Columns + column];
                    a = LeftAt(k, i, row) * x + a;
                    b = LeftAt(k, i, row + 1) * x + b;
                    c = LeftAt(k, i, row + 2) * x + c;
                    d = LeftAt(k, i, row + 3) * x + d;
                }
                UpdateOne(k, row, column, a);
                UpdateOne(k, row + 1, column, b);
                UpdateOne(k, row + 2, column, c);
                UpdateOne(k, row + 3, column, d);
            }

            // Rows behind the last one count nothing and are not written.
            private static float LeftAt(StepKernel k, int product, long row) => row < k.Rows ? k.Left[product * k.Rows + row] : 0;

            private static F4 Add(F4 sum, F4 x, float factor) => new(factor * x.X + sum.X, factor * x.Y + sum.Y, factor * x.Z + sum.Z, factor * x.W + sum.W);

            private static void UpdateOne(StepKernel k, long row, long column, float g)
            {
                if (row >= k.Rows)
                    return;
                long i = row * k.Columns + column;
                ElementOut y = AdamWUpdate.Ilgpu.StepElement.At(new ElementIn { A = g * k.Scale, B = k.M[i], C = k.V[i], D = k.P[i] }, k.Numbers);
                k.M[i] = y.Y0;
                k.V[i] = y.Y1;
                k.P[i] = y.Y2;
            }

            private static void UpdateQuad(StepKernel k, long row, long quad, F4 g)
            {
                if (row >= k.Rows)
                    return;
                long i = row * k.Quads + quad;
                F4 m = k.M.Cast<F4>()[i], v = k.V.Cast<F4>()[i], p = k.P.Cast<F4>()[i];
                ElementOut a = AdamWUpdate.Ilgpu.StepElement.At(new ElementIn { A = g.X * k.Scale, B = m.X, C = v.X, D = p.X }, k.Numbers);
                ElementOut b = AdamWUpdate.Ilgpu.StepElement.At(new ElementIn { A = g.Y * k.Scale, B = m.Y, C = v.Y, D = p.Y }, k.Numbers);
                ElementOut c = AdamWUpdate.Ilgpu.StepElement.At(new ElementIn { A = g.Z * k.Scale, B = m.Z, C = v.Z, D = p.Z }, k.Numbers);
                ElementOut d = AdamWUpdate.Ilgpu.StepElement.At(new ElementIn { A = g.W * k.Scale, B = m.W, C = v.W, D = p.W }, k.Numbers);
                k.M.Cast<F4>()[i] = new F4(a.Y0, b.Y0, c.Y0, d.Y0);
                k.V.Cast<F4>()[i] = new F4(a.Y1, b.Y1, c.Y1, d.Y1);
                k.P.Cast<F4>()[i] = new F4(a.Y2, b.Y2, c.Y2, d.Y2);
            }
        }
    }
}
