"""The operations that a SavedModel may have: those of inference, by name. Everything else is refused.

The list is what exports of every layer and function of Keras hold (`tests/sweeps/coverage.py`), and their neighbours:
arithmetic, shapes, images, strings, tables in memory, control flow, variables. Nothing in it reads or writes a file,
uses a network, starts a process, runs Python, or prints. `SAVER` are those that every SavedModel has for its variables;
they are allowed only in the functions that nothing but the saver calls.
"""

from __future__ import annotations

_ARITHMETIC = """
Abs Acos Acosh Add AddN AddV2 Angle ApproximateEqual Asin Asinh Atan Atan2 Atanh BesselI0 BesselI0e BesselI1 BesselI1e
BesselJ0 BesselJ1 BesselY0 BesselY1 Betainc BiasAdd BitwiseAnd BitwiseOr BitwiseXor Ceil ClipByValue Complex
ComplexAbs Conj Cos Cosh Digamma Div DivNoNan Elu Equal Erf Erfc Erfinv Exp Expint Expm1 Floor FloorDiv FloorMod
FresnelCos FresnelSin Greater GreaterEqual Igamma Igammac Imag Inv Invert IsFinite IsInf IsNan LeakyRelu LeftShift
Less LessEqual Lgamma Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr Maximum Minimum Mod Mul MulNoNan Ndtri Neg
NextAfter NotEqual Polygamma PopulationCount Pow Real RealDiv Reciprocal Relu Relu6 RightShift Rint Round Rsqrt Selu
Sigmoid Sign Sin Sinh Softmax Softplus Softsign Spence Sqrt Square SquaredDifference Sub Tan Tanh TruncateDiv
TruncateMod Xdivy Xlog1py Xlogy Zeta
"""
_SUMS = """
All Any ArgMax ArgMin Bincount Bucketize CTCGreedyDecoder CTCLoss CTCLossV2 Cumprod Cumsum CumulativeLogsumexp
DenseBincount EuclideanNorm HistogramFixedWidth InTopK InTopKV2 L2Loss LowerBound Max Mean Min NthElement Prod
SegmentMax SegmentMaxV2 SegmentMean SegmentMin SegmentMinV2 SegmentProd SegmentProdV2 SegmentSum SegmentSumV2
SoftmaxCrossEntropyWithLogits SparseSoftmaxCrossEntropyWithLogits Sum TopK TopKV2 Unique UniqueV2 UniqueWithCounts
UniqueWithCountsV2 UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum UpperBound
"""
_MATRICES = """
BandedTriangularSolve BatchMatMul BatchMatMulV2 BatchMatMulV3 Cholesky Cross Diag DiagPart Eig Einsum FFT FFT2D FFT3D
IFFT IFFT2D IFFT3D IRFFT IRFFT2D IRFFT3D LogMatrixDeterminant Lu MatMul MatrixBandPart MatrixDeterminant MatrixDiag
MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixExponential MatrixInverse
MatrixLogarithm MatrixSetDiag MatrixSetDiagV2 MatrixSetDiagV3 MatrixSolve MatrixSolveLs MatrixSquareRoot
MatrixTriangularSolve Qr RFFT RFFT2D RFFT3D SelfAdjointEig SelfAdjointEigV2 Svd TridiagonalMatMul TridiagonalSolve
"""
_IMAGES = """
AdjustContrast AdjustContrastv2 AdjustHue AdjustSaturation AvgPool AvgPool3D CombinedNonMaxSuppression Conv Conv2D
Conv2DBackpropInput Conv3D Conv3DBackpropInput Conv3DBackpropInputV2 CropAndResize DataFormatDimMap
DataFormatVecPermute DepthToSpace DepthwiseConv2dNative DepthwiseConv2dNativeBackpropInput Dilation2D
DrawBoundingBoxes DrawBoundingBoxesV2 ExtractGlimpse ExtractGlimpseV2 ExtractImagePatches ExtractVolumePatches
FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel FractionalAvgPool FractionalMaxPool
FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 HSVToRGB ImageProjectiveTransformV2 ImageProjectiveTransformV3 LRN
MaxPool MaxPool3D MaxPoolV2 MaxPoolWithArgmax NonMaxSuppression NonMaxSuppressionV2 NonMaxSuppressionV3
NonMaxSuppressionV4 NonMaxSuppressionV5 NonMaxSuppressionWithOverlaps QuantizeAndDequantizeV2 QuantizeAndDequantizeV3
QuantizeAndDequantizeV4 RGBToHSV ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor ScaleAndTranslate
"""
_SHAPES = """
BatchToSpace BatchToSpaceND Bitcast BroadcastArgs BroadcastTo Cast Concat ConcatOffset ConcatV2 Const DynamicPartition
DynamicStitch Empty EnsureShape ExpandDims Fill Gather GatherNd GatherV2 Identity IdentityN InvertPermutation LinSpace
ListDiff MirrorPad OneHot OnesLike Pack Pad PadV2 ParallelConcat ParallelDynamicStitch Placeholder PlaceholderV2
PlaceholderWithDefault PreventGradient Range Rank Reshape Reverse ReverseSequence ReverseV2 Roll ScatterNd Select
SelectV2 Shape ShapeN Size Slice Snapshot SpaceToBatch SpaceToBatchND SpaceToDepth Split SplitV Squeeze StopGradient
StridedSlice TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate
TensorStridedSliceUpdate Tile Transpose UnravelIndex Unpack Where XlaDynamicUpdateSlice ZerosLike
"""
_SPARSE_AND_RAGGED = """
DenseToSparseSetOperation RaggedBincount RaggedGather RaggedRange RaggedTensorToSparse RaggedTensorToTensor SparseAdd
SparseBincount SparseConcat SparseCross SparseCrossHashed SparseCrossV2 SparseDenseCwiseAdd SparseDenseCwiseDiv
SparseDenseCwiseMul SparseFillEmptyRows SparseMatMul SparseReduceMax SparseReduceSum SparseReorder SparseReshape
SparseSegmentMean SparseSegmentMeanWithNumSegments SparseSegmentSqrtN SparseSegmentSqrtNWithNumSegments
SparseSegmentSum SparseSegmentSumWithNumSegments SparseSlice SparseSoftmax SparseSplit SparseTensorDenseAdd
SparseTensorDenseMatMul SparseToDense
"""
_TEXT = """
AsString DecodeBase64 EncodeBase64 Fingerprint HashTable HashTableV2 LookupTableFind LookupTableFindV2
LookupTableImport LookupTableImportV2 LookupTableSize LookupTableSizeV2 MutableDenseHashTable MutableDenseHashTableV2
MutableHashTable MutableHashTableV2 LookupTableExportV2 LookupTableInsertV2 ReduceJoin RegexFullMatch RegexReplace
StaticRegexFullMatch StaticRegexReplace StringFormat StringJoin StringLength StringLower StringNGrams StringSplit
StringSplitV2 StringStrip StringToHashBucket StringToHashBucketFast StringToHashBucketStrong StringToNumber
StringUpper Substr UnicodeDecode UnicodeDecodeWithOffsets UnicodeEncode UnicodeScript UnicodeTranscode
"""
_CONTROL = """
Assert Case CheckNumerics CheckNumericsV2 ControlTrigger Enter Exit For If LoopCond Merge NextIteration NoOp
PartitionedCall StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile Switch While EmptyTensorList
TensorListConcatLists TensorListConcatV2 TensorListElementShape TensorListFromTensor TensorListGather
TensorListGetItem TensorListLength TensorListPopBack TensorListPushBack TensorListReserve TensorListResize
TensorListScatterV2 TensorListSetItem TensorListSplit TensorListStack
"""
_RANDOM = """
Multinomial RandomGamma RandomPoissonV2 RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt
StatelessMultinomial StatelessRandomBinomial StatelessRandomGammaV2 StatelessRandomGetAlg StatelessRandomGetKeyCounter
StatelessRandomGetKeyCounterAlg StatelessRandomNormal StatelessRandomNormalV2 StatelessRandomUniform
StatelessRandomUniformInt StatelessRandomUniformIntV2 StatelessRandomUniformV2 StatelessTruncatedNormal
StatelessTruncatedNormalV2 TruncatedNormal
"""
_VARIABLES = """
AssignAddVariableOp AssignSubVariableOp AssignVariableOp DisableCopyOnRead ReadVariableOp ResourceGather
ResourceGatherNd VarHandleOp VarIsInitializedOp VariableShape
"""

OPERATIONS = frozenset(
    " ".join(
        (
            *(_ARITHMETIC, _SUMS, _MATRICES, _IMAGES, _SHAPES, _SPARSE_AND_RAGGED),
            *(_TEXT, _CONTROL, _RANDOM, _VARIABLES),
        )
    ).split()
)
"""The operations of inference, by the names of TensorFlow's registry"""

SAVER = frozenset({"MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename"})
"""What the functions that save and restore variables hold beside `OPERATIONS`"""
