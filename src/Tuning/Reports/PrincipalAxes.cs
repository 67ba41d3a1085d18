// The two directions of most variance of a few dozen short vectors, for a picture. Deliberately no arithmetic of its own: PrincipalComponents has it.
using IptNative.Tuning.Subspaces;

namespace IptNative.Tuning.Reports;

/// <summary>Projects vectors onto their first two principal axes.</summary>
internal static class PrincipalAxes
{
    /// <summary>Coordinates of each vector and the share of variance of each axis; zeros on a second axis that there is not (two vectors, or one dimension).</summary>
    public static (IReadOnlyList<(double X, double Y)> Points, double ShareX, double ShareY) Project(IReadOnlyList<float[]> vectors)
    {
        int axes = Math.Min(2, vectors.Count - 1);
        PrincipalComponents found = PrincipalComponents.Fit(vectors, axes);
        return ([.. found.Coordinates.Select(c => (c[0], axes > 1 ? c[1] : 0))], found.Shares[0], axes > 1 ? found.Shares[1] : 0);
    }
}
