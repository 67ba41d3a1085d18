// Adafactor's step on a GPU: nothing of it comes back to the host. Row sums by one group a row; column sums by strips of rows, added in order; the divisor
// stays in device memory between the passes. Contract and formulas: AdafactorUpdate.cs.
using ILGPU;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Ops;

public static partial class AdafactorUpdate
{
    internal static class Ilgpu
    {
        // Strips of rows that column sums are cut into: enough to fill the machine where columns are few.
        private const int MaxStrips = 64;
        private const int MinStripRows = 16;

        public static void RunFull(IlgpuDevice gpu, Tensor g, Tensor v, Tensor p, Tensor sums, long rows, long columns, in AdafactorCoefficients k)
        {
            var moment = new MomentKernel { G = gpu.View<float>(g), V = gpu.View<float>(v), Sums = gpu.View<double>(sums), Rows = rows, Columns = columns, K = k };
            gpu.Launch(moment, gpu.Groups(rows), gpu.Threads);
            LaunchDivisor(gpu, sums, rows, columns, k);
            var step = new FullStepKernel { G = moment.G, V = moment.V, P = gpu.View<float>(p), Sums = moment.Sums, Rows = rows, Columns = columns, K = k };
            gpu.Launch(step, gpu.Groups((rows * columns + gpu.Threads - 1) / gpu.Threads), gpu.Threads);
        }

        public static void RunFactored(
            IlgpuDevice gpu, Tensor g, Tensor r, Tensor c, Tensor p, Tensor sums, Tensor factors, long rows, long columns, in AdafactorCoefficients k)
        {
            int strips = (int)Math.Clamp(rows / MinStripRows, 1, MaxStrips);
            Tensor partials = gpu.Scratch(DType.F64, strips * columns);
            var squares = new RowSquaresKernel { G = gpu.View<float>(g), Sums = gpu.View<double>(sums), Rows = rows, Columns = columns };
            gpu.Launch(squares, gpu.Groups(rows), gpu.Threads);
            var strip = new StripKernel { G = squares.G, Partials = gpu.View<double>(partials), Rows = rows, Columns = columns, Strips = strips };
            gpu.Launch(strip, new Index3D((int)((columns + gpu.Threads - 1) / gpu.Threads), strips, 1), gpu.Threads);
            var factor = new FactorKernel
            {
                R = gpu.View<float>(r),
                C = gpu.View<float>(c),
                Sums = squares.Sums,
                Partials = strip.Partials,
                Factors = gpu.View<float>(factors),
                Rows = rows,
                Columns = columns,
                Strips = strips,
                K = k,
            };
            gpu.Launch(factor, 1, gpu.Threads);
            var step = new FactoredStepKernel { G = squares.G, Factors = factor.Factors, P = gpu.View<float>(p), Sums = squares.Sums, Rows = rows, Columns = columns, K = k };
            gpu.Launch(step, gpu.Groups(rows), gpu.Threads);
            LaunchDivisor(gpu, sums, rows, columns, k);
            step.Moves = true;
            gpu.Launch(step, gpu.Groups(rows), gpu.Threads);
        }

        private static void LaunchDivisor(IlgpuDevice gpu, Tensor sums, long rows, long columns, in AdafactorCoefficients k) =>
            gpu.Launch(new DivisorKernel { Sums = gpu.View<double>(sums), Rows = rows, Count = (double)rows * columns, Threshold = k.ClipThreshold }, 1, gpu.Threads);

        /// <summary>On the device: keep p + shrink p - lr y / divisor.</summary>
        private static float Stepped(float p, float y, float divisor, AdafactorCoefficients k) => p * k.Shrink + p * k.Keep - y / divisor * k.LearningRate;

        internal struct MomentKernel : IGpuKernel<MomentKernel>
        {
            public ArrayView<float> G, V;
            public ArrayView<double> Sums;
            public long Rows, Columns;
            public AdafactorCoefficients K;

            public static void Run(MomentKernel k)
            {
                ArrayView<double> shared = SharedMemory.Allocate<double>(GpuSums.MaxWarps);
                for (long row = Grid.IdxX; row < k.Rows; row += Grid.DimX)
                {
                    double sum = 0;
                    for (long i = row * k.Columns + Group.IdxX; i < (row + 1) * k.Columns; i += Group.DimX)
                    {
                        float g = k.G[i], v = (g * g + k.K.Epsilon) * k.K.NewWeight + k.V[i] * k.K.Beta2;
                        k.V[i] = v;
                        float y = 1 / MathF.Sqrt(v) * g;
                        sum += (double)y * y;
                    }
                    sum = GpuSums.Group(sum, shared);
                    if (Group.IdxX == 0)
                        k.Sums[row] = sum;
                }
            }
        }

        // One group: sums of rows to the divisor, which lies behind them.
        internal struct DivisorKernel : IGpuKernel<DivisorKernel>
        {
            public ArrayView<double> Sums;
            public long Rows;
            public double Count;
            public float Threshold;

            public static void Run(DivisorKernel k)
            {
                ArrayView<double> shared = SharedMemory.Allocate<double>(GpuSums.MaxWarps);
                double sum = 0;
                for (long i = Group.IdxX; i < k.Rows; i += Group.DimX)
                    sum += k.Sums[i];
                sum = GpuSums.Group(sum, shared);
                double divisor = Math.Sqrt(sum / k.Count) / k.Threshold;
                // A NaN stays: a broken gradient breaks the parameter, and the trainer stops.
                if (Group.IdxX == 0)
                    k.Sums[k.Rows] = divisor < 1 ? 1 : divisor;
            }
        }

        internal struct FullStepKernel : IGpuKernel<FullStepKernel>
        {
            public ArrayView<float> G, V, P;
            public ArrayView<double> Sums;
            public long Rows, Columns;
            public AdafactorCoefficients K;

            public static void Run(FullStepKernel k)
            {
                float divisor = (float)k.Sums[k.Rows];
                long stride = (long)Grid.DimX * Group.DimX;
                for (long i = (long)Grid.IdxX * Group.DimX + Group.IdxX; i < k.Rows * k.Columns; i += stride)
                    k.P[i] = Stepped(k.P[i], 1 / MathF.Sqrt(k.V[i]) * k.G[i], divisor, k.K);
            }
        }

        internal struct RowSquaresKernel : IGpuKernel<RowSquaresKernel>
        {
            public ArrayView<float> G;
            public ArrayView<double> Sums;
            public long Rows, Columns;

            public static void Run(RowSquaresKernel k)
            {
                ArrayView<double> shared = SharedMemory.Allocate<double>(GpuSums.MaxWarps);
                for (long row = Grid.IdxX; row < k.Rows; row += Grid.DimX)
                {
                    double sum = 0;
                    for (long i = row * k.Columns + Group.IdxX; i < (row + 1) * k.Columns; i += Group.DimX)
                    {
                        double g = k.G[i];
                        sum += g * g;
                    }
                    sum = GpuSums.Group(sum, shared);
                    if (Group.IdxX == 0)
                        k.Sums[row] = sum;
                }
            }
        }

        // Neighbouring threads take neighbouring columns of a strip of rows.
        internal struct StripKernel : IGpuKernel<StripKernel>
        {
            public ArrayView<float> G;
            public ArrayView<double> Partials;
            public long Rows, Columns;
            public int Strips;

            public static void Run(StripKernel k)
            {
                long column = (long)Grid.IdxX * Group.DimX + Group.IdxX;
                if (column >= k.Columns)
                    return;
                long first = k.Rows * Grid.IdxY / k.Strips, end = k.Rows * (Grid.IdxY + 1) / k.Strips;
                double sum = 0;
                for (long row = first; row < end; row++)
                {
                    double g = k.G[row * k.Columns + column];
                    sum += g * g;
                }
                k.Partials[Grid.IdxY * k.Columns + column] = sum;
            }
        }

        // One group: both moments, the mean of r, and the reciprocal roots.
        internal struct FactorKernel : IGpuKernel<FactorKernel>
        {
            public ArrayView<float> R, C, Factors;
            public ArrayView<double> Sums, Partials;
            public long Rows, Columns;
            public int Strips;
            public AdafactorCoefficients K;

            public static void Run(FactorKernel k)
            {
                ArrayView<double> shared = SharedMemory.Allocate<double>(GpuSums.MaxWarps);
                double total = 0;
                for (long i = Group.IdxX; i < k.Rows; i += Group.DimX)
                {
                    float r = k.K.Beta2 * k.R[i] + k.K.NewWeight * (float)(k.Sums[i] / k.Columns + k.K.Epsilon);
                    k.R[i] = r;
                    total += r;
                }
                float mean = (float)(GpuSums.Group(total, shared) / k.Rows);
                for (long i = Group.IdxX; i < k.Rows; i += Group.DimX)
                    k.Factors[i] = 1 / MathF.Sqrt(k.R[i] / mean);
                for (long j = Group.IdxX; j < k.Columns; j += Group.DimX)
                {
                    double sum = 0;
                    for (int strip = 0; strip < k.Strips; strip++)
                        sum += k.Partials[strip * k.Columns + j];
                    float c = k.K.Beta2 * k.C[j] + k.K.NewWeight * (float)(sum / k.Rows + k.K.Epsilon);
                    k.C[j] = c;
                    k.Factors[k.Rows + j] = 1 / MathF.Sqrt(c);
                }
            }
        }

        // Run twice: first it sums y^2, then, with the divisor known, it moves the parameter.
        internal struct FactoredStepKernel : IGpuKernel<FactoredStepKernel>
        {
            public ArrayView<float> G, Factors, P;
            public ArrayView<double> Sums;
            public long Rows, Columns;
            public AdafactorCoefficients K;
            public GpuFlag Moves;

            public static void Run(FactoredStepKernel k)
            {
                ArrayView<double> shared = SharedMemory.Allocate<double>(GpuSums.MaxWarps);
                float divisor = k.Moves ? (float)k.Sums[k.Rows] : 1;
                for (long row = Grid.IdxX; row < k.Rows; row += Grid.DimX)
                {
                    float rowFactor = k.Factors[row];
                    double sum = 0;
                    for (long j = Group.IdxX; j < k.Columns; j += Group.DimX)
                    {
                        long i = row * k.Columns + j;
                        float y = rowFactor * k.Factors[k.Rows + j] * k.G[i];
                        if (k.Moves)
                            k.P[i] = Stepped(k.P[i], y, divisor, k.K);
                        else
                            sum += (double)y * y;
                    }
                    if (!k.Moves)
                    {
                        sum = GpuSums.Group(sum, shared);
                        if (Group.IdxX == 0)
                            k.Sums[row] = sum;
                    }
                }
            }
        }
    }
}
