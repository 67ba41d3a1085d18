// How a product whose pieces pack their own operands is cut: by batch entry, rows, and columns where those are too few for the threads.
namespace IptNative.Kernels.Ops;

/// <summary>Equal rectangles of each batch entry's C.</summary>
internal readonly record struct GemmCut(int Batches, int Rows, int Columns, int RowPieces, int ColumnPieces)
{
    /// <summary>Pieces of all batch entries.</summary>
    public int Pieces => checked(Batches * RowPieces * ColumnPieces);

    /// <summary>Pieces of at most <paramref name="mostRows"/> rows, in whole tiles.</summary>
    public static GemmCut ForPrivatePacking(in GemmArgs args, int workers, int mostRows, int tileRows, int tileColumns)
    {
        int wanted = args.Flops < GemmBlocking.SerialFlops ? 1
            : (long)Math.Min(args.M, mostRows) * args.K > GemmBlocking.CachedFloats ? workers : GemmBlocking.PiecesPerWorker * workers;
        int rowPieces = GemmBlocking.Pieces(args.M, mostRows);
        int columnPieces = 1;
        if ((long)rowPieces * args.Batches < wanted)
        {
            columnPieces = Math.Max(1, Math.Min(GemmBlocking.Pieces(wanted, rowPieces * args.Batches), args.N / GemmBlocking.PrivateColumns));
            int missing = GemmBlocking.Pieces(wanted, rowPieces * args.Batches * columnPieces);
            rowPieces = Math.Max(rowPieces, Math.Min(rowPieces * missing, args.M / GemmBlocking.LeastRows));
        }
        int rows = GemmBlocking.EvenPart(args.M, rowPieces, tileRows);
        int columns = GemmBlocking.EvenPart(args.N, columnPieces, tileColumns);
        return new(args.Batches, rows, columns, GemmBlocking.Pieces(args.M, rows), GemmBlocking.Pieces(args.N, columns));
    }

    /// <summary>Batch entry and first element of a piece.</summary>
    public (int Batch, int M0, int N0) Corner(int piece)
    {
        int inEntry = piece % (RowPieces * ColumnPieces);
        return (piece / (RowPieces * ColumnPieces), inEntry / ColumnPieces * Rows, inEntry % ColumnPieces * Columns);
    }
}
